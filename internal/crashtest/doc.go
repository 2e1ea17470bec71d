// Package crashtest kills a real broker process with SIGKILL at random moments
// while publishers and consumers run, damages the log's unsynced tail between
// the rounds as a power failure may, starts it again on the same data
// directory, and checks what the clients were promised:
//
//   - every confirmed message is delivered at least once;
//   - a message whose ack is known to be synced never comes back. A client
//     knows it when a message that it published after the ack, on the same
//     connection and into the same group, is confirmed;
//   - within one consumer's life each publisher's messages come in order.
//
// It has only tests: `go test ./internal/crashtest -rounds 100`.
package crashtest
