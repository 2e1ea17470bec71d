// Package backbone carries bytes between brokers: datagrams that may be lost,
// and links that are ordered, numbered and credit-controlled. It knows nothing
// of raft, groups or queues.
//
// Underneath is NATS: a server embedded in each broker, all joined by routes
// into a full mesh, or an external NATS cluster. NATS is at most once and
// drops silently where a buffer is full, so all that a link promises is made
// here: a receiver that misses a number says so, and the sender's owner hears
// that what it sent may be lost (Handler.LinkBroken). Nothing is sent twice:
// what a loss means is the owner's to know (raft probes again, a gateway
// resends its submissions and the state machine drops what it has seen).
//
// # Classes
//
// Each [Class] has an account, a client connection and, in the embedded
// server, a TCP connection of its own for each pair of brokers, so that beats
// never queue behind bulk traffic.
//
// # Subjects
//
// Brokers are numbered by their place in the sorted list of names. A subject
// ends in one token a broker, 1 for who shall get the message and 0 for the
// others:
//
//	mirrormq.CLUSTER.HASH.CLASS.0.1.1      to the second and the third
//
// and the third broker subscribes to mirrormq.CLUSTER.HASH.CLASS.*.*.1: one
// subscription each, and every set of recipients is reached with one publish.
// HASH is of the list of names: brokers that disagree on who is in the cluster
// do not hear one another, rather than mistake one for another.
//
// # Frames
//
// Each NATS message is one frame. Integers are little endian.
//
//	any    kind 1 | sender 1 | epoch 8 | …
//	hello  … | incarnation 8 | heard 8
//	leave  …
//	left   … | your epoch 8
//	gram   … | payload
//	data   … | total 4 | offset 4 | n 1 | n × (recipient 1 | life 4 | number 8) | payload
//	open   … | your epoch 8 | life 4
//	probe  … | your epoch 8 | life 4 | number 8
//	ack    … | your epoch 8 | life 4 | received 8 | consumed 8
//	gap    … | your epoch 8 | life 4
//
// sender is a broker's number, epoch a random number drawn at its start, and
// heard the epoch of the recipient that the sender hears (0: none). A peer is
// up when its hello has heard our epoch, so only while both directions work.
//
// # The life of a link
//
// A link is one direction of a class between two brokers. Its sender opens a
// life (open, repeated until it is acked) and then numbers the frames of that
// life from 1. The receiver acks how many bytes have arrived, which paces the
// sender's writes, and how many its owner has consumed, which bounds what is
// accepted. A receiver that sees a number skipped answers gap and ignores the
// rest of that life; a sender whose frames are not acked sends probes, so that
// a lost tail is found too. A gap, a lost peer, a lost connection or an
// unanswered probe ends the life: the owner is told once, and the next life
// begins with a fresh numbering.
package backbone
