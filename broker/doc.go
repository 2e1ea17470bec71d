// Package broker is the one place where the rooms are wired together. It owns
// the listeners, connections and channels (the AMQP front), the gateway
// through which a channel reaches a queue's group, and the groups' loops, each
// of which drives a raft core, a state machine and a dispatcher from a single
// goroutine.
//
// The way of a publish:
//
//	connection reader ── submission (ops) ──▶ group loop ── batch ──▶ raft ──▶ log
//	        ▲                                     │                        │ fsync
//	        │ confirms (outbox)                   ▼                        ▼
//	connection writer ◀── deliveries ──── dispatcher ◀── state machine ◀── commit
package broker
