// Package bench is the load generator: it publishes and consumes against any
// AMQP 0-9-1 broker, verifies what comes back, and measures rate, latency and
// what the broker process spends. It sees brokers only through AMQP and, for
// those that it starts itself, as processes (package launch), so that the same
// scenario runs unchanged against MirrorMQ and RabbitMQ.
//
// Run does the throughput and latency scenarios, Idle, Backlog and Pinned the
// ones that look at memory, restart and disk. Compare runs a scenario on
// several brokers in turn. Command joins them all into a command line.
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
