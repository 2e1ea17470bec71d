package backbone

import (
	"errors"
	"fmt"
)

// Class is a kind of traffic with an account and connections of its own.
type Class uint8

// The classes. Beats carries beats, votes for who is alive and the backbone's
// own hellos: small and urgent. Replication carries the logs. Gateway carries
// submissions and deliveries. Transfer carries what mirrors need that fell
// behind the logs: gigabytes, which nothing else may wait for.
const (
	Beats Class = iota
	Replication
	Gateway
	Transfer
	classes = 4
)

var classNames = [classes]string{"beats", "replication", "gateway", "transfer"}

// String is the class's name as subjects, accounts and log lines have it.
func (c Class) String() string {
	if c < classes {
		return classNames[c]
	}
	return fmt.Sprintf("class(%d)", uint8(c))
}

// Handler hears what arrives and what becomes of links and peers. Its methods
// are called on the backbone's goroutines, for different classes and peers at
// the same time, and must only enqueue: a handler that blocks holds up its
// class. They may call Send, SendLink, Consumed and Reopen, never Leave or
// Close. A payload is the receiver's own and may be kept.
type Handler interface {
	// Datagram is one payload that Send or Broadcast gave to the peer's backbone.
	Datagram(c Class, from string, payload []byte)
	// Message is the next one of the link from a peer, in the order of its
	// SendLink calls. Each must be given back with Backbone.Consumed.
	Message(c Class, from string, payload []byte)
	// LinkReset says that messages between those before and those to come may
	// be lost: the link has a new life. It is called between them, on the
	// goroutine that calls Message.
	LinkReset(c Class, from string)
	// LinkBroken says that messages given to SendLink for that peer before
	// this call may be lost from some point on.
	LinkBroken(c Class, to string)
	// LinkWritable says that a link which refused a message with ErrFull has
	// half of its window free again.
	LinkWritable(c Class, to string)
	// PeerUp says that a peer hears us and we hear it. PeerUp and PeerDown of
	// all peers are called on one goroutine.
	PeerUp(name string, incarnation uint64)
	// PeerDown says that a peer has announced its leave, that its route is
	// lost, or that it was silent for Config.Silence. Its links are broken
	// already.
	PeerDown(name string)
}

// Errors of Send and SendLink.
var (
	// ErrFull refuses a message because the receiver has not consumed enough
	// of those before it. LinkWritable tells when to try again.
	ErrFull = errors.New("backbone: link is full")
	// ErrDown refuses a message to a peer that is not up.
	ErrDown = errors.New("backbone: peer is down")
	// ErrHeld refuses a message on a broken link that waits for Reopen
	// (Config.HoldBroken).
	ErrHeld = errors.New("backbone: link is broken and not reopened")
	// ErrTooLarge refuses a message larger than Config.MaxMessage, or a
	// datagram larger than MaxPayload.
	ErrTooLarge = errors.New("backbone: message is too large")
	// ErrUnknownPeer is for a name that is not in Config.Peers, or our own.
	ErrUnknownPeer = errors.New("backbone: unknown peer")
	// ErrClosed is returned after Leave or Close.
	ErrClosed = errors.New("backbone: closed")
)

// Refusal is one recipient that SendLink did not take a message for.
type Refusal struct {
	To  string
	Err error
}

// SendError lists the recipients that did not get a message; all others of
// the call did. errors.Is sees every refusal's error.
type SendError struct{ Refusals []Refusal }

// Error names each refused recipient.
func (e *SendError) Error() string {
	s := "backbone: not sent"
	for _, r := range e.Refusals {
		s += fmt.Sprintf("; to %s: %v", r.To, r.Err)
	}
	return s
}

// Unwrap gives the refusals' errors.
func (e *SendError) Unwrap() []error {
	errs := make([]error, len(e.Refusals))
	for i, r := range e.Refusals {
		errs[i] = r.Err
	}
	return errs
}
