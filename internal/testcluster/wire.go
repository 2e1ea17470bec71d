package testcluster

import (
	"net"
	"sync"
)

// Mode is what a wire does to the bytes of one direction.
type Mode uint8

const (
	// Passes is a wire in order.
	Passes Mode = iota
	// Broken connections are reset, new ones refused. It breaks both
	// directions whichever of them is set.
	Broken
	// Silent is a network that loses every packet: nothing arrives, nobody is
	// told. What was sent arrives when the wire passes again, if the connection
	// is still there, as TCP would have it.
	Silent
)

// wire is the way from one broker to another's backbone address. A broker that
// dials the other end does so through it, and both directions of those
// connections lie on it.
type wire struct {
	listener net.Listener
	target   string
	wait     sync.WaitGroup
	mu       struct {
		sync.Mutex
		changed chan struct{} // closed at every change
		closed  bool
		there   Mode // from the dialer to the target
		back    Mode
		conns   map[net.Conn]bool
	}
}

func newWire(host, target string) (*wire, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, err
	}
	w := &wire{listener: l, target: target}
	w.mu.conns = make(map[net.Conn]bool)
	w.mu.changed = make(chan struct{})
	w.wait.Go(w.accept)
	return w, nil
}

func (w *wire) address() string { return w.listener.Addr().String() }

func (w *wire) accept() {
	for {
		from, err := w.listener.Accept()
		if err != nil {
			return
		}
		w.wait.Go(func() { w.join(from) })
	}
}

// join carries a connection. One that is dialed while the wire is silent waits,
// as its SYN would.
func (w *wire) join(from net.Conn) {
	if !w.add(from) {
		return
	}
	defer w.remove(from)
	if !w.passes(true) {
		return
	}
	to, err := net.Dial("tcp", w.target)
	if err != nil || !w.add(to) {
		return
	}
	defer w.remove(to)
	var both sync.WaitGroup
	both.Go(func() { w.carry(from, to, true) })
	both.Go(func() { w.carry(to, from, false) })
	both.Wait()
}

// add takes a connection in, or closes it and returns false.
func (w *wire) add(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.closed || w.mu.there == Broken || w.mu.back == Broken {
		reset(c)
		return false
	}
	w.mu.conns[c] = true
	return true
}

func (w *wire) remove(c net.Conn) {
	w.mu.Lock()
	delete(w.mu.conns, c)
	w.mu.Unlock()
	c.Close()
}

// passes waits until a direction lets bytes through; false when the wire breaks
// instead.
func (w *wire) passes(there bool) bool {
	for {
		w.mu.Lock()
		mode, changed := w.mu.back, w.mu.changed
		if there {
			mode = w.mu.there
		}
		closed := w.mu.closed
		w.mu.Unlock()
		if closed || mode == Broken {
			return false
		}
		if mode == Passes {
			return true
		}
		<-changed
	}
}

// carry copies one direction until an end closes. What was read when the wire
// fell silent waits until it passes.
func (w *wire) carry(from, to net.Conn, there bool) {
	defer from.Close()
	defer to.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if !w.passes(there) {
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// set changes the directions' modes.
func (w *wire) set(there, back Mode) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.there, w.mu.back = there, back
	w.announce()
	if there == Broken || back == Broken {
		w.reset()
	}
}

// announce is called with mu held.
func (w *wire) announce() {
	close(w.mu.changed)
	w.mu.changed = make(chan struct{})
}

// reset is called with mu held.
func (w *wire) reset() {
	for c := range w.mu.conns {
		reset(c)
	}
}

// reset closes a connection so that the other end is told by a RST.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // It is closed in any case.
	}
	c.Close()
}

// close ends the wire and waits for its goroutines.
func (w *wire) close() {
	w.listener.Close()
	w.mu.Lock()
	w.mu.closed = true
	w.announce()
	w.reset()
	w.mu.Unlock()
	w.wait.Wait()
}
