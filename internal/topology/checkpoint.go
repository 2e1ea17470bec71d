package topology

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"

	"github.com/mirrormq/mirrormq/internal/entry"
)

const (
	checkpointMagic   = "MQTOPO"
	checkpointVersion = 1
	// maxRecord bounds a checkpoint's record: more than any op that fits into
	// a frame takes.
	maxRecord = 16 << 20
)

// checkpointWriter writes a checkpoint's records.
type checkpointWriter struct {
	w       *bufio.Writer
	records uint64
	head    []byte // scratch
	err     error  // the first; sticky
}

// record writes an op, its code first, as a record.
func (w *checkpointWriter) record(op []byte, err error) {
	if w.err != nil {
		return
	}
	if w.err = err; err != nil {
		return
	}
	w.records++
	w.head = binary.AppendUvarint(append(w.head[:0], op[0]), uint64(len(op)-1))
	if _, w.err = w.w.Write(w.head); w.err == nil {
		_, w.err = w.w.Write(op[1:])
	}
}

// Checkpoint writes the state, so that Restore reads it back: without the
// order in which equal things came about, but for the queues', which routing
// shows. Equal states are written as equal bytes. O(n log n).
func (s *State) Checkpoint(to io.Writer) error {
	w := &checkpointWriter{w: bufio.NewWriterSize(to, 64<<10)}
	head := append([]byte(checkpointMagic), checkpointVersion)
	if _, err := w.w.Write(binary.AppendUvarint(head, s.applied)); err != nil {
		return err
	}
	var b []byte
	names := slices.Sorted(maps.Keys(s.vhosts))
	for _, name := range names {
		h := s.vhosts[name]
		b = AppendPutVhost(b[:0], h.Vhost)
		w.record(b, nil)
		for _, x := range slices.Sorted(maps.Keys(h.exchanges)) {
			if h.exchanges[x].Predeclared {
				continue
			}
			var err error
			b, err = AppendDeclareExchange(b[:0], &h.exchanges[x].Exchange)
			w.record(b, err)
		}
	}
	queues := s.AllQueues()
	for _, q := range queues {
		var err error
		b, err = AppendDeclareQueue(b[:0], q)
		w.record(b, err)
	}
	s.checkpointBindings(w, names, queues)
	for _, u := range s.Users() {
		b = AppendPutUser(b[:0], *u)
		w.record(b, nil)
	}
	for _, p := range s.Permissions() {
		b = AppendPutPermission(b[:0], p)
		w.record(b, nil)
	}
	for _, id := range slices.Sorted(maps.Keys(s.sessions)) {
		b = binary.AppendUvarint(append(b[:0], byte(opSession)), uint64(id))
		b = binary.AppendUvarint(b, s.sessions[id])
		w.record(b, nil)
	}
	if w.err != nil {
		return w.err
	}
	if _, err := w.w.Write(binary.AppendUvarint([]byte{byte(opEnd)}, w.records)); err != nil {
		return err
	}
	return w.w.Flush()
}

// checkpointBindings writes bindings by their destination, queues in the order
// of their ordinals: they go into a leaf at its end then, see leaf.
func (s *State) checkpointBindings(w *checkpointWriter, vhosts []string, queues []*Queue) {
	var b []byte
	write := func(in []*binding) {
		in = slices.SortedFunc(slices.Values(in), compareBindings)
		for _, one := range in {
			view := one.view()
			var err error
			b, err = AppendBind(b[:0], &view)
			w.record(b, err)
		}
	}
	for _, q := range queues {
		write(*q.in)
	}
	for _, name := range vhosts {
		h := s.vhosts[name]
		for _, x := range slices.Sorted(maps.Keys(h.exchanges)) {
			write(h.exchanges[x].in)
		}
	}
}

// Restore reads a checkpoint. The error wraps ErrMalformed, or is r's.
func Restore(from io.Reader) (*State, error) {
	r := bufio.NewReaderSize(from, 64<<10)
	head := make([]byte, len(checkpointMagic)+1)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, cutShort(err)
	}
	if string(head) != checkpointMagic+string(rune(checkpointVersion)) {
		return nil, fmt.Errorf("%w: checkpoint begins with %q", ErrMalformed, head)
	}
	applied, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, badNumber(err)
	}
	s := empty()
	s.applied = applied
	fx := new(Effects)
	var record bytes.Buffer
	for n := uint64(0); ; n++ {
		kind, err := r.ReadByte()
		if err != nil {
			return nil, cutShort(err)
		}
		size, err := binary.ReadUvarint(r)
		if err != nil {
			return nil, badNumber(err)
		}
		if opCode(kind) == opEnd {
			if size != n {
				return nil, fmt.Errorf("%w: checkpoint of %d records ends after %d", ErrMalformed, size, n)
			}
			break
		}
		if size > maxRecord {
			return nil, fmt.Errorf("%w: checkpoint record %d of %d bytes", ErrMalformed, n, size)
		}
		// Grown as bytes come: a length alone must not take memory.
		record.Reset()
		if _, err := io.CopyN(&record, r, int64(size)); err != nil {
			return nil, cutShort(err)
		}
		if err := s.restoreRecord(opCode(kind), record.Bytes(), fx); err != nil {
			return nil, fmt.Errorf("checkpoint record %d: %w", n, err)
		}
		fx.Reset()
	}
	if _, err := r.ReadByte(); err != io.EOF {
		return nil, fmt.Errorf("%w: bytes after the checkpoint's end", ErrMalformed)
	}
	return s, nil
}

// cutShort tells a checkpoint that ends too early from a reader that fails.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: checkpoint cut short", ErrMalformed)
	}
	return err
}

// badNumber is the error of a number that can't be read: the file's, unless the
// reading failed.
func badNumber(err error) error {
	var failed *fs.PathError
	if err = cutShort(err); errors.Is(err, ErrMalformed) || errors.As(err, &failed) {
		return err
	}
	return fmt.Errorf("%w: %v", ErrMalformed, err)
}

func (s *State) restoreRecord(kind opCode, b []byte, fx *Effects) error {
	r := reader{b: b}
	if kind == opSession {
		id, sequence := entry.SessionID(r.uvarint("session")), r.uvarint("sequence")
		s.sessions[id] = sequence
		return r.done()
	}
	switch kind {
	case opPutVhost, opDeclareExchange, opDeclareQueue, opBind, opPutUser, opPutPermission:
	default:
		return fmt.Errorf("%w: kind %d", ErrMalformed, kind)
	}
	o := parseOp(kind, &r)
	if err := r.done(); err != nil {
		return err
	}
	if result := s.carryOut(o, fx); result.Code != OK {
		return fmt.Errorf("%w: %s: %s", ErrMalformed, result.Code, result.Name)
	}
	return nil
}
