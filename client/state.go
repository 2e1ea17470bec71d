package client

import (
	"fmt"
	"sync"
)

// State is how a connection of a client's is.
type State int

const (
	// Connecting says that there is no connection and one is being made.
	Connecting State = iota
	// Connected says that there is one.
	Connected
	// Blocked says that the broker takes no messages, for lack of memory or disk;
	// all else goes on.
	Blocked
	// Closed is the end: the client was closed.
	Closed
)

func (s State) String() string {
	switch s {
	case Connecting:
		return "connecting"
	case Connected:
		return "connected"
	case Blocked:
		return "blocked"
	case Closed:
		return "closed"
	}
	return fmt.Sprintf("state %d", int(s))
}

// Role is what a connection of a client's is for.
type Role string

const (
	// Consuming is the connection of consumers and declarations.
	Consuming Role = "consuming"
	// Publishing is the connection of producers.
	Publishing Role = "publishing"
)

// Status is a change of one of a client's connections.
type Status struct {
	Role  Role
	State State
	// Broker is the address that the connection leads to, or led to.
	Broker string
	// Reason is why the connection was lost, could not be made, or is blocked.
	Reason error
}

// watchBuffer is how many changes a watcher may be behind.
const watchBuffer = 16

// watchers are the channels that are told of changes.
type watchers struct {
	mu struct {
		sync.Mutex
		list   []chan Status
		closed bool
	}
}

// watch returns a channel that is told of every change from now on.
func (w *watchers) watch() <-chan Status {
	c := make(chan Status, watchBuffer)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.closed {
		close(c)
	} else {
		w.mu.list = append(w.mu.list, c)
	}
	return c
}

// tell sends a change to all. Where one doesn't read its oldest is dropped: what
// counts is how things are.
func (w *watchers) tell(s Status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.mu.list {
		for {
			select {
			case c <- s:
			default:
				select {
				case <-c:
				default:
				}
				continue
			}
			break
		}
	}
}

func (w *watchers) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.mu.list {
		close(c)
	}
	w.mu.list, w.mu.closed = nil, true
}
