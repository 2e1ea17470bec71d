package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
)

// maxBody is the longest line or file that is taken as one message: what a
// broker can be set to accept.
const maxBody = 512 << 20

// bodies yields the bodies that are to be published: one body many times,
// made-up ones, or lines as they come.
type bodies struct {
	left  int64 // how many more, at most
	body  []byte
	size  int // of made-up bodies; 0 is none
	count int64
	lines <-chan line // nil without a reader
	stop  context.CancelFunc
}

type line struct {
	text []byte
	err  error
}

// newBodies reads the flags and arguments that say what is published. total is
// the number of messages, 0 if that depends on the input.
func newBodies(c *cli.Context, args []string) (b *bodies, total int64, err error) {
	count := int64(c.Int("count"))
	if c.IsSet("count") && count < 1 {
		return nil, 0, usage("--count %d: at least 1", count)
	}
	sources := len(args)
	for _, flag := range []string{"file", "size"} {
		if c.IsSet(flag) {
			sources++
		}
	}
	if sources > 1 {
		return nil, 0, usage("give one body: an argument, --file or --size (put a text of several words in quotes)")
	}
	b = &bodies{left: max(count, 1), stop: func() {}}
	switch {
	case len(args) == 1:
		b.body = []byte(args[0])
	case c.IsSet("size"):
		size, err := parseSize(c.String("size"))
		if err != nil || size > maxBody {
			return nil, 0, usage("--size: %q is no size up to 512MiB", c.String("size"))
		}
		b.size = int(size)
		b.body = madeUp(b.size)
	case c.IsSet("file"):
		if b.body, err = readFile(c.String("file"), c.App.Reader); err != nil {
			return nil, 0, err
		}
	default:
		if isTerminal(c.App.Reader) {
			_, _ = fmt.Fprintln(c.App.ErrWriter, "each line is a message; Ctrl-D ends")
		}
		b.left = math.MaxInt64
		if count > 0 {
			b.left = count
		}
		b.readLines(c.App.Reader)
		return b, 0, nil
	}
	return b, b.left, nil
}

// next returns the next body, io.EOF after the last. It is valid for good.
func (b *bodies) next(ctx context.Context) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if b.left == 0 {
		return nil, io.EOF
	}
	b.left--
	b.count++
	if b.lines != nil {
		select {
		case l := <-b.lines:
			return l.text, l.err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if b.size >= numberWidth {
		// Each made-up body begins with its number, to tell them apart.
		numbered := append([]byte(nil), b.body...)
		copy(numbered, fmt.Sprintf("%0*d", numberWidth-1, b.count))
		return numbered, nil
	}
	return b.body, nil
}

func (b *bodies) close() { b.stop() }

// readLines reads lines in a goroutine of its own, so that an interrupted
// command need not wait for the next one. A read of standard input can't be
// interrupted: the goroutine may outlive close, until its next line.
func (b *bodies) readLines(r io.Reader) {
	ctx, stop := context.WithCancel(context.Background())
	lines := make(chan line)
	b.lines, b.stop = lines, stop
	go func() {
		s := bufio.NewScanner(r)
		s.Buffer(make([]byte, 64<<10), maxBody)
		for {
			l := line{err: io.EOF}
			if s.Scan() {
				l = line{text: append([]byte(nil), s.Bytes()...)}
			} else if s.Err() != nil {
				l.err = s.Err()
			}
			select {
			case lines <- l:
			case <-ctx.Done():
				return
			}
			if l.err != nil {
				return
			}
		}
	}()
}

func readFile(path string, stdin io.Reader) ([]byte, error) {
	r := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fail(exitNotFound, "", "--file: %w", err)
		}
		defer func() { _ = f.Close() }()
		r = f
	}
	body, err := io.ReadAll(io.LimitReader(r, maxBody+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxBody {
		return nil, usage("--file %s: longer than 512MiB", path)
	}
	return body, nil
}

// numberWidth is the room of the number, with the space behind it, at the
// beginning of a made-up body.
const numberWidth = 11

func madeUp(size int) []byte {
	const text = " the quick brown fox jumps over the lazy dog"
	return []byte(strings.Repeat(text, size/len(text)+1)[:size])
}
