//go:build unix

package amqp

import (
	"io"
	"net"
	"os"
	"syscall"
)

// newSource reads sockets by their file descriptors, so that no buffer is
// held while one waits for its peer. It goes by the exact types: something
// that embeds a connection may have a Read of its own, as TLS has.
func newSource(r io.Reader) source {
	var raw syscall.RawConn
	var err error
	switch c := r.(type) {
	case *net.TCPConn:
		raw, err = c.SyscallConn()
	case *net.UnixConn:
		raw, err = c.SyscallConn()
	}
	if raw == nil || err != nil {
		return &streamSource{stream: r, drained: true}
	}
	s := &socketSource{raw: raw}
	s.try = s.tryRead
	return s
}

// socketSource takes a buffer only when the socket has bytes for it.
type socketSource struct {
	raw syscall.RawConn
	// try is tryRead as a value, made once.
	try func(fd uintptr) (done bool)

	// The call's reader and results; nil and 0 between calls.
	reader *Reader
	n      int
	err    error
}

func (s *socketSource) read(r *Reader) (int, error) {
	s.reader, s.n, s.err = r, 0, nil
	err := s.raw.Read(s.try)
	s.reader = nil
	if err == nil {
		err = s.err
	}
	return s.n, err
}

// tryRead reads without blocking. It returns false to be called again when
// the socket has something, which is when no buffer is needed.
func (s *socketSource) tryRead(fd uintptr) (done bool) {
	room := s.reader.room(false)
	for {
		n, err := syscall.Read(int(fd), room)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			s.reader.rest()
			return false
		case err != nil:
			s.err = os.NewSyscallError("read", err)
		case n == 0:
			s.err = io.EOF
		default:
			s.reader.took(n, len(room))
			s.n = n
		}
		return true
	}
}
