package broker

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/mirrormq/mirrormq/replicate"
)

// A group's checkpoint, as the log keeps it and as a mirror gets it, is who the
// members were at its position, and the state machine's own encoding:
//
//	0 | length uvarint | members | state …
//
// One that begins with another byte is from before, and is all state.
const membersMark = 0

// maxMembersBytes is more than any number of members takes.
const maxMembersBytes = 1 << 20

// withMembers returns a writer of a checkpoint.
func withMembers(members replicate.Members, state func(io.Writer) error) func(io.Writer) error {
	encoded := replicate.AppendMembers(nil, members)
	return func(w io.Writer) error {
		head := binary.AppendUvarint([]byte{membersMark}, uint64(len(encoded)))
		if _, err := w.Write(append(head, encoded...)); err != nil {
			return err
		}
		return state(w)
	}
}

// readMembers reads a checkpoint up to its state, which the reader that it
// returns has. The members are empty where the checkpoint has none.
func readMembers(r io.Reader) (replicate.Members, io.Reader, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	if first, err := in.Peek(1); err != nil || first[0] != membersMark {
		return replicate.Members{}, in, nil // The state's reader tells what is wrong.
	}
	_, _ = in.Discard(1) // It was peeked.
	size, err := binary.ReadUvarint(in)
	if err != nil || size > maxMembersBytes {
		return replicate.Members{}, nil, fmt.Errorf("%w: %d bytes: %v", replicate.ErrMembers, size, err)
	}
	encoded := make([]byte, size)
	if _, err := io.ReadFull(in, encoded); err != nil {
		return replicate.Members{}, nil, fmt.Errorf("%w: %w", replicate.ErrMembers, err)
	}
	members, rest, err := replicate.ParseMembers(encoded)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%w: %d bytes after them", replicate.ErrMembers, len(rest))
	}
	return members, in, err
}
