// Package testcluster starts a cluster of real broker processes on loopback,
// does to it what goes wrong in the field, and checks what its clients were
// promised.
//
// A Cluster can kill its brokers with SIGKILL, stop them with SIGTERM, pause
// them with SIGSTOP, and cut them off from one another: between each two
// backbones lies a proxy, since each broker is given addresses of its own for
// the others. As root on Linux its tests also give each broker a file system of
// its own, which is filled up, or frozen as a disk that hangs. A Load runs a publisher and a consumer on every broker. A Ledger
// checks, apart from all of the brokers' code:
//
//   - a confirmed message is delivered at least once;
//   - a message that was delivered to a client of a broker that lives is never
//     delivered again;
//   - each publisher's messages come in order to each consumer, but for those
//     that were given out before and came back;
//   - a publisher on a living broker gets no nack, and in the end a confirm
//     for each of its messages.
//
// A broker that is killed, paused, stopped or cut off is not counted as living
// from then on until it has settled again: what its consumers had may be given
// to others.
//
// `go test ./internal/testcluster` plays each fault once, in short; -long plays
// them longer (make faults), -rounds says how often all brokers are killed at once, -chaos
// 2m plays random faults for that time (make chaos DURATION=2m), -measure prints
// how long clients stand still (make standstill), and -catchup what they notice of
// a mirror that catches up (make catchup).
//
// A Flood is another kind of clients: they go as fast as they can over
// connections that last, and notice by themselves what is lost or doubled.
package testcluster
