package client_test

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// proxy stands between clients and a broker, to cut their connections.
type proxy struct {
	listener net.Listener
	target   string
	wait     sync.WaitGroup

	mu struct {
		sync.Mutex
		conns  map[net.Conn]bool // true: what comes from it is lost
		closed bool
	}
}

// newProxy starts one before the broker of a URL; url is its own.
func newProxy(t testing.TB, broker string) (p *proxy, url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(broker, "@")
	target := strings.TrimSuffix(rest, "/")
	p = &proxy{listener: l, target: target}
	p.mu.conns = make(map[net.Conn]bool)
	p.wait.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		p.mu.closed = true
		p.mu.Unlock()
		p.cut()
		p.wait.Wait()
	})
	return p, strings.Replace(broker, target, l.Addr().String(), 1)
}

// cut breaks all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.mu.conns {
		conn.Close()
	}
}

// mute loses what comes over the connections that there are, and then cuts them.
func (p *proxy) mute(until time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.mu.conns {
		p.mu.conns[conn] = true
	}
	time.AfterFunc(until, p.cut)
}

func (p *proxy) accept() {
	for {
		from, err := p.listener.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", p.target)
		if err != nil {
			from.Close()
			continue
		}
		p.mu.Lock()
		p.mu.conns[from], p.mu.conns[to] = false, false
		closed := p.mu.closed
		p.mu.Unlock()
		if closed {
			p.cut()
		}
		p.wait.Go(func() { p.carry(to, from) })
		p.wait.Go(func() { p.carry(from, to) })
	}
}

// carry copies until one of the two ends, and ends both.
func (p *proxy) carry(to, from net.Conn) {
	defer func() {
		to.Close()
		from.Close()
		p.mu.Lock()
		delete(p.mu.conns, to)
		p.mu.Unlock()
	}()
	_, _ = io.Copy(writerFunc(func(b []byte) (int, error) {
		p.mu.Lock()
		mute := p.mu.conns[from]
		p.mu.Unlock()
		if mute {
			return len(b), nil
		}
		return to.Write(b)
	}), from) // The end of either is all that can happen.
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
