// Package log is the broker's one write-ahead log. It owns the data directory:
// the segments (written through tidwall/wal, read by ourselves), their side
// indexes, the checkpoints, the incarnation and the lock. All groups share it,
// so that one fsync commits what waits for all of them.
//
//	DIR/lock                                      flock, held while open
//	DIR/incarnation                               16 hexadecimal digits
//	DIR/wal/%020d                                 segments, named by the sequence of their first record
//	DIR/index/%020d                               side index of the sealed segment of that name
//	DIR/checkpoints/GROUP-INDEX-TERM.checkpoint   a group's state at a position
//
// # Record
//
// A segment is tidwall/wal's binary format: uvarint length and record, without
// gaps. Our record, integers little-endian:
//
//	 0        4      5       9      17      25
//	+--------+------+-------+-------+-------+------------+
//	| crc32c | kinds| group | term  | index | payload …  |
//	| 4      | 1    | 4     | 8     | 8     | the rest   |
//	+--------+------+-------+-------+-------+------------+
//
// Of the kinds, the low four bits are the record's, and the high four are raft's
// kind of an entry (0 for records of before it was kept):
//
//	kind 1 entry       a raft entry; discards the group's entries at and after index
//	kind 2 moved       an entry that compaction copied; gives it a new place, discards nothing
//	kind 3 hard state  term, index = commit, payload = 8 bytes vote; the newest counts
//	kind 4 synced      everything before it was synced before it was written
//	kind 5 front       index = sequence; the segments before that one are dropped
//	kind 6 refill      an entry from another broker, of a checkpoint to come: nothing to
//	                   the group while it lies above the floor, one of its entries from then on
//
// The CRC covers all after itself, and starts from a hash of the record's place
// (the segment's name and the offset), which is not stored: bytes that are a
// record elsewhere, such as in a message body that is itself a log file, are
// not one here.
//
// An entry's identity is (group, index). What lies where is known in memory
// only, at 16 bytes an entry, and found again at opening.
//
// # Side index
//
// One per sealed segment, about 3 bytes a record, so that opening reads these
// and not the segments:
//
//	"MQIDX" 0 0 1 | first sequence 8 | records 8 | segment bytes 8 | records … | crc32c 4
//
//	record: tag 1 | group, unless as before | index, unless the one after |
//	        term, unless as before | payload length (hard state: vote)       uvarints
//	tag:    kind + 0x08 same group + 0x10 next index + 0x20 same term
//
// One that is absent, damaged or of another size than its segment is built
// again from the segment.
//
// # Checkpoint
//
//	"MQCKP" 0 0 1 | group 4 | term 8 | index 8 | state … |
//	replaced from 8 | replaced before 8 | … | state bytes 8 | crc32c 4
//
// The CRC covers all before it. "Replaced" is for a checkpoint that does not
// continue the log but takes its place: records of sequence < before, with an
// index >= from, are no longer the group's, but for refill records. It is in the
// file so that all of it takes effect by one rename, and in those that follow,
// perhaps together with others, while such records may be on disk; zeros where
// there is none. See refill.go for how the bodies come that such a checkpoint
// refers to.
//
// # What opening repairs, and what it refuses
//
// A segment is synced before the next is begun, and a synced record is written
// after each fsync, before anything else. So the first bad record is a torn tail, to be
// cut off, if it is in the newest segment and no synced record follows it; any
// number of valid records after it were never promised to anybody. Else it was
// durable once, and Open refuses with a *DamagedError that names file and
// offset. It also refuses a missing segment (at the front, in the middle, and
// at the end if a side index remembers it), an entry missing between a group's
// floor and its last one, a log that ends before a group's commit, and a
// missing incarnation. Payloads of sealed segments are not read at opening:
// damage there is found by Read, by compaction, or by Verify.
//
// # Compaction
//
// An entry is dead when it lies at or below its group's floor and is released,
// or when a conflict has discarded it. The maintainer takes the oldest segment,
// has the writer append its live entries as moved records in small pieces and
// sync them, then a front record (and the hard states that lay there), sync,
// and only then unlinks the file and syncs the directory. A crash between any
// two steps leaves a log that opens to the same entries.
package log
