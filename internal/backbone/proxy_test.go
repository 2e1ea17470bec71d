package backbone

import (
	"net"
	"sync"
	"testing"
)

// proxy is the wire from one broker to another's listener. It can be cut, and
// it can swallow what goes in either direction while connections stay open.
type proxy struct {
	t        testing.TB
	listener net.Listener
	target   string
	wait     sync.WaitGroup

	mu      sync.Mutex
	mode    wire
	resumed chan struct{} // closed when mode is no longer wireHeld
	conns   map[net.Conn]bool
}

type wire uint8

const (
	wirePasses   wire = iota
	wireCut           // connections are broken, new ones refused
	wireSwallows      // bytes vanish in both directions
	wireHeld          // nothing is read: buffers fill up
)

func newProxy(t testing.TB, target string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, listener: l, target: target, conns: map[net.Conn]bool{}, resumed: make(chan struct{})}
	p.wait.Add(1)
	go p.accept()
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	defer p.wait.Done()
	for {
		from, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		mode := p.mode
		p.mu.Unlock()
		if mode == wireCut {
			from.Close()
			continue
		}
		to, err := net.Dial("tcp", p.target)
		if err != nil {
			from.Close()
			continue
		}
		p.mu.Lock()
		p.conns[from], p.conns[to] = true, true
		p.mu.Unlock()
		p.wait.Add(2)
		go p.copy(from, to)
		go p.copy(to, from)
	}
}

func (p *proxy) copy(from, to net.Conn) {
	defer p.wait.Done()
	defer func() {
		from.Close()
		to.Close()
		p.mu.Lock()
		delete(p.conns, from)
		delete(p.conns, to)
		p.mu.Unlock()
	}()
	b := make([]byte, 64<<10)
	for {
		p.mu.Lock()
		mode, resumed := p.mode, p.resumed
		p.mu.Unlock()
		if mode == wireHeld {
			<-resumed
			continue
		}
		n, err := from.Read(b)
		if err != nil {
			return
		}
		p.mu.Lock()
		mode = p.mode
		p.mu.Unlock()
		if mode == wireSwallows {
			continue
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) set(mode wire) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mode == wireHeld {
		close(p.resumed)
		p.resumed = make(chan struct{})
	}
	p.mode = mode
	if mode == wireCut {
		for c := range p.conns {
			c.Close()
		}
	}
}

func (p *proxy) close() {
	p.listener.Close()
	p.set(wireCut)
	p.wait.Wait()
}

// wires puts a proxy between each two brokers, in each direction of dialing.
type wires map[[2]string]*proxy

func (c *cluster) wire() wires {
	w := wires{}
	real := map[string]string{}
	for name, config := range c.configs {
		real[name] = config.Peers[name]
	}
	for name, config := range c.configs {
		for peer := range config.Peers {
			if peer != name {
				p := newProxy(c.t, real[peer])
				w[[2]string{name, peer}] = p
				config.Peers[peer] = p.address()
			}
		}
	}
	c.t.Cleanup(func() {
		for name := range c.live {
			c.stop(name)
		}
		for _, p := range w {
			p.close()
		}
	})
	return w
}

func (w wires) between(a, b string, mode wire) {
	w[[2]string{a, b}].set(mode)
	w[[2]string{b, a}].set(mode)
}
