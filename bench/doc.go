// Package bench is the load generator: it publishes and consumes against
// brokers, verifies what comes back, and measures rate, latency and what the
// broker processes spend. It sees brokers only through AMQP, and through NATS
// those that have no AMQP, and, where it starts them itself, as processes
// (package launch), so that the same scenario runs unchanged against MirrorMQ,
// RabbitMQ and JetStream.
//
// Run plays a Scenario. Compare plays one on several brokers in turn; Scenarios
// are those with a name. Idle, Backlog and Pinned look at memory, restart and
// disk. Command joins them all into a command line.
//
// Below it: driver has the ways to a broker, peer the brokers that the load
// generator brings along, procstat what processes use, report the figures, and
// how they are shown.
//
// Every message carries what is needed to verify it:
//
//	 0        4      8          16           24          32       size
//	+--------+------+----------+------------+-----------+--------+
//	| crc32c | from | sequence | sent at    | run id    | filler |
//	+--------+------+----------+------------+-----------+--------+
//
// Integers are big endian. The CRC (Castagnoli) covers all after itself. From
// is the publisher, sequence counts its messages from 1, sent at is in
// nanoseconds of the load generator's own clock, run id tells messages of
// another run apart.
package bench
