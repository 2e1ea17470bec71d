package amqp

import "io"

// source is where a Reader gets bytes from. read reads once into the reader's
// room and accounts for it; n is 0 only with an error.
type source interface {
	read(r *Reader) (n int, err error)
}

// maxEmptyReads bounds how often a stream may return nothing and no error.
const maxEmptyReads = 100

// streamSource reads from any stream. A stream can't be asked whether it has
// something: after a read that left room free the next one probably blocks,
// and gets the smallest buffer; if it fills that, the reader wants more at
// the next.
type streamSource struct {
	stream  io.Reader
	drained bool
}

func (s *streamSource) read(r *Reader) (int, error) {
	for range maxEmptyReads {
		room := r.room(s.drained)
		n, err := s.stream.Read(room)
		if n > 0 {
			s.drained = !r.took(n, len(room))
			return n, err
		}
		if err != nil {
			s.drained = true
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}
