// Package queue is what a queue group does with its log: a pure state machine
// that every replica feeds with the same committed entries (Machine), and the
// memory of who was given what, which only the leader has (Dispatcher). Neither
// knows I/O, clocks or goroutines; both belong to the goroutine of their group.
//
// # Batch: the payload of one log entry
//
//	batch      = version(1)=1 | now(8) | submission*
//	submission = session(8) | sequence(v) | length of ops(v) | op*
//	op         = kind(1) | fields
//
//	enqueue      1 | queues(v) | queue(8)… | content size(v) | content
//	settle       2 | queue(8) | ranges
//	return       3 | queue(8) | ranges
//	create       4 | queue(8) | settings size(v) | settings
//	delete       5 | queue(8) | if-empty(1)
//	purge        6 | queue(8) | up to(v) | ranges (spared)
//	mark         7 | queue(8) | up to(v)
//	end session  8 | session(8)
//	enqueue      9 | expiration in ms(v) | as above from queues on
//
//	ranges   = count(v) | { first(v) | last-first(v) }…
//	settings = { tag(v) | size(v) | value }…, tags ascending
//
// (n) is a little-endian integer of n bytes, (v) an unsigned varint. Content is
// an encoded entry.Content; an enqueue to several queues of the group carries
// it once. A message that has an expiration, or comes to a queue with a TTL,
// expires at the time of its batch plus the smaller of both. now is the leader's clock in nanoseconds of the Unix epoch: apply
// reads no clock of its own. An empty payload is an empty batch (raft's own
// entries at the start of a term).
//
// # Checkpoint
//
//	checkpoint = "MMQC" | version(1)=2 | applied index(v) | now(8) |
//	             sessions(v) | { session(8) | sequence(v) | seen(8) }… |
//	             queues(v)   | queue… |
//	             stamps(v)   | { index - previous index(v) | batch's now(8) }… | "END\n"
//	queue      = id(8) | settings size(v) | settings | last id(v) | mark(v) |
//	             messages(v) | message… |
//	             expirations(v) | { id - previous id(v) | when(8) }…
//	message    = id - previous id(v) | index - previous index(v) |
//	             offset(v) | size(v) | deliveries(v)
//
// Sessions and queues ascend by id, so that equal states have equal bytes.
// Stamps are of entries with messages that expire by their queue's TTL,
// expirations of messages that expire by their own. Version 1, which had
// neither, is still read. Reference counts of entries are derived from the messages, so a checkpoint
// can't disagree with itself. It carries no checksum: its file has one.
package queue
