package main

import (
	"bytes"
	"fmt"
	"io"
	"sync"
)

// maxHeldLine bounds a line that has not ended yet; a longer one is cut.
const maxHeldLine = 64 << 10

// prefixes lets several processes write to one stream: whole lines, each with
// its writer's name in front.
type prefixes struct {
	mu  sync.Mutex
	out io.Writer
}

func newPrefixes(out io.Writer) *prefixes { return &prefixes{out: out} }

// say writes a line without a name.
func (p *prefixes) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = fmt.Fprintf(p.out, format+"\n", args...)
}

// nameColours tell the brokers apart where a person watches.
var nameColours = []string{"36", "33", "35", "32", "34", "96", "93", "95", "92"}

// with is the stream of one of them, the n-th.
func (p *prefixes) with(name string, n int) *prefixed {
	mark := styleOf(p.out).code(nameColours[n%len(nameColours)], name+" |")
	return &prefixed{to: p, prefix: []byte(mark + " ")}
}

// prefixed is one process's output. It is safe for concurrent use.
type prefixed struct {
	to     *prefixes
	prefix []byte

	mu   sync.Mutex
	held []byte // a line that has not ended
}

// Write implements io.Writer. It keeps what follows the last end of line. What
// can't be written is dropped: a broker must not stop for want of a reader.
func (p *prefixed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(b)
	for {
		line, rest, ended := bytes.Cut(b, []byte{'\n'})
		if !ended {
			break
		}
		p.held = append(p.held, line...)
		p.line()
		b = rest
	}
	p.held = append(p.held, b...)
	if len(p.held) > maxHeldLine {
		p.line()
	}
	return n, nil
}

// flush writes a last line that has no end.
func (p *prefixed) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.held) > 0 {
		p.line()
	}
}

// line is called with mu held.
func (p *prefixed) line() {
	p.to.mu.Lock()
	defer p.to.mu.Unlock()
	_, _ = fmt.Fprintf(p.to.out, "%s%s\n", p.prefix, p.held)
	p.held = p.held[:0]
}
