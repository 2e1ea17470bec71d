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
//	once        10 | producer | sequence(v) | an enqueue, 1 or 9
//
//	producer = vhost size(v) | vhost | name size(v) | name
//	ranges   = count(v) | { first(v) | last-first(v) }…
//	settings = { tag(v) | size(v) | value }…, tags ascending
//
// (n) is a little-endian integer of n bytes, (v) an unsigned varint. Content is
// an encoded entry.Content; an enqueue to several queues of the group carries
// it once. A message that has an expiration, or comes to a queue with a TTL,
// expires at the time of its batch plus the smaller of both. now is the leader's
// clock in nanoseconds of the Unix epoch: apply reads no clock of its own. An
// empty payload is an empty batch (raft's own entries at the start of a term).
//
// # Producers
//
// A submission is applied once by its session and sequence, which is how a
// broker's gateway may hand it to one leader after another. A client that loses
// its broker has no such thing: it publishes again through another broker, in a
// session of that, and nobody there knows whether the first copy came through,
// or still will. So a client may name itself and number its publishes, and each
// group remembers of each producer which numbers it has enqueued: the last 8192
// up to the highest, which is far more than a client has on its way. A number that is
// there already is passed over and confirmed like the first time; a number below
// those, of which nobody knows any more, is refused. What is enqueued nowhere,
// because its queues are gone, is not remembered.
//
// Producers that were idle for a day are forgotten, and of more than 100,000, or
// more than take 64 MiB, those that were idle for longest.
//
// # Checkpoint
//
//	checkpoint = "MMQC" | version(1)=3 | applied index(v) | now(8) |
//	             sessions(v) | { session(8) | sequence(v) | seen(8) }… |
//	             queues(v)   | queue… |
//	             stamps(v)   | { index - previous index(v) | batch's now(8) }… |
//	             producers(v) | { producer | seen(8) | window }… | "END\n"
//	queue      = id(8) | settings size(v) | settings | last id(v) | mark(v) |
//	             messages(v) | message… |
//	             expirations(v) | { id - previous id(v) | when(8) }…
//	message    = id - previous id(v) | index - previous index(v) |
//	             offset(v) | size(v) | deliveries(v)
//	window     = highest(v) | highest - first(v) | words(v) | word(8)…
//
// Sessions and queues ascend by id, so that equal states have equal bytes.
// Stamps are of entries with messages that expire by their queue's TTL,
// expirations of messages that expire by their own. Producers come in the order
// in which they were last heard of. Version 1, which had none of these, and
// version 2, which had no producers, are still read. Reference counts of entries
// are derived from the messages, so a checkpoint can't disagree with itself. It
// carries no checksum: its file has one.
package queue
