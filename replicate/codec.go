package replicate

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
)

// The encoding of a message between members, written by hand because protobuf
// copies each payload twice on its way and once more on its arrival: 7 µs per
// KiB over three members. Integers are uvarints where nothing else is said; ids
// are 8 bytes, little-endian.
//
//	type 1 | flags 1 | recipients 1 | recipients … | from | term | log term |
//	index | commit | reject hint, if flagged | context length, context, if flagged |
//	entries | entries × ( kind 1 | term | length ) | payloads …
//
// Indexes of entries follow the message's index and are not sent. Payloads come
// last, one after the other, so that a sender can pass them on from where they
// are (AppendMessageHead), and a receiver's entries share the memory of what it
// received (ParseMessage). The group is not in it: that is the frame around.

const (
	flagReject = 1 << iota
	flagHint
	flagContext
	flagsKnown = 1<<iota - 1
)

// maxRecipients is how many members one encoding can be for.
const maxRecipients = 255

// AppendMessage appends the encoding of m for the members in to; m's own To is
// not looked at. It allocates nothing where dst has the room.
//
// REQUIRES: m is a message that a Node gave to its Transport; at most 255
// recipients.
func AppendMessage(dst []byte, to []uint64, m *raftpb.Message) []byte {
	dst = AppendMessageHead(dst, to, m)
	for _, e := range m.GetEntries() {
		dst = append(dst, e.GetData()...)
	}
	return dst
}

// AppendMessageHead is AppendMessage without the payloads: those of m's
// entries, in their order, make the encoding whole.
func AppendMessageHead(dst []byte, to []uint64, m *raftpb.Message) []byte {
	if err := sendable(m); err != nil || len(to) > maxRecipients {
		panic(fmt.Sprintf("replicate: to %x: %v", to, err))
	}
	var flags byte
	if m.GetReject() {
		flags |= flagReject
	}
	if m.GetRejectHint() != 0 {
		flags |= flagHint
	}
	if len(m.GetContext()) > 0 {
		flags |= flagContext
	}
	dst = append(dst, byte(m.GetType()), flags, byte(len(to)))
	for _, id := range to {
		dst = binary.LittleEndian.AppendUint64(dst, id)
	}
	dst = binary.LittleEndian.AppendUint64(dst, m.GetFrom())
	dst = binary.AppendUvarint(dst, m.GetTerm())
	dst = binary.AppendUvarint(dst, m.GetLogTerm())
	dst = binary.AppendUvarint(dst, m.GetIndex())
	dst = binary.AppendUvarint(dst, m.GetCommit())
	if flags&flagHint != 0 {
		dst = binary.AppendUvarint(dst, m.GetRejectHint())
	}
	if flags&flagContext != 0 {
		dst = binary.AppendUvarint(dst, uint64(len(m.GetContext())))
		dst = append(dst, m.GetContext()...)
	}
	dst = binary.AppendUvarint(dst, uint64(len(m.GetEntries())))
	for _, e := range m.GetEntries() {
		dst = append(dst, byte(e.GetType()))
		dst = binary.AppendUvarint(dst, e.GetTerm())
		dst = binary.AppendUvarint(dst, uint64(len(e.GetData())))
	}
	return dst
}

// sendable reports what of a message the encoding has no place for.
func sendable(m *raftpb.Message) error {
	if !betweenMembers(m.GetType()) {
		return fmt.Errorf("%w: type %v", ErrMessage, m.GetType())
	}
	if m.GetSnapshot() != nil || len(m.GetResponses()) > 0 || m.GetVote() != 0 {
		return fmt.Errorf("%w: %v with what only a member tells itself", ErrMessage, m.GetType())
	}
	for i, e := range m.GetEntries() {
		if e.GetIndex() != m.GetIndex()+1+uint64(i) || e.GetType() < 0 || e.GetType() > 0xff {
			return fmt.Errorf("%w: entry %d of type %v after %d", ErrMessage, e.GetIndex(), e.GetType(), m.GetIndex()+uint64(i))
		}
	}
	return nil
}

// betweenMembers reports whether members send each other such messages.
func betweenMembers(t raftpb.MessageType) bool {
	switch t {
	case raftpb.MsgApp, raftpb.MsgAppResp, raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp, raftpb.MsgTimeoutNow,
		raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp:
		return true
	}
	return false
}

// ParseMessage decodes a message for member id, and sets its To; nil without an
// error when id is not among the recipients. Payloads and context share b's
// memory, which must not change afterwards. It makes two or three allocations
// of a size that b bounds. It does not judge what the message says: Step does.
//
// Errors: ErrMessage.
func ParseMessage(b []byte, id uint64) (*raftpb.Message, error) {
	r := reader{b: b}
	kind, flags, recipients := raftpb.MessageType(r.byte()), r.byte(), r.byte()
	mine := false
	for range recipients {
		mine = r.id() == id || mine
	}
	box := new(messageBox)
	box.kind, box.to, box.from, box.reject = kind, id, r.id(), flags&flagReject != 0
	box.term, box.logTerm, box.index, box.commit = r.uvarint(), r.uvarint(), r.uvarint(), r.uvarint()
	if flags&flagHint != 0 {
		box.hint = r.uvarint()
	}
	var context []byte
	if flags&flagContext != 0 {
		context = r.bytes(r.uvarint())
	}
	count := r.uvarint()
	if flags&^flagsKnown != 0 || !betweenMembers(kind) || count > uint64(len(r.b))/3 {
		r.bad = true
	}
	if r.bad {
		return nil, fmt.Errorf("%w: malformed", ErrMessage)
	}
	m := box.message()
	m.Context = context
	if count > 0 {
		m.Entries = r.entries(box.index, int(count))
	}
	if r.bad || len(r.b) > 0 {
		return nil, fmt.Errorf("%w: malformed", ErrMessage)
	}
	if !mine {
		return nil, nil
	}
	return m, nil
}

// messageBox is a message with the fields that it points to, in one allocation.
type messageBox struct {
	m                                    raftpb.Message
	kind                                 raftpb.MessageType
	to, from, term, logTerm, index, hint uint64
	commit                               uint64
	reject                               bool
}

func (b *messageBox) message() *raftpb.Message {
	m := &b.m
	m.Type, m.To, m.From, m.Term = &b.kind, &b.to, &b.from, &b.term
	m.LogTerm, m.Index, m.Commit = &b.logTerm, &b.index, &b.commit
	if b.reject {
		m.Reject = &b.reject
	}
	if b.hint != 0 {
		m.RejectHint = &b.hint
	}
	return m
}

// reader takes an encoding apart. Once it is bad it returns zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) id() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

// entries decodes the heads of count entries and then their payloads. They lie
// in one piece of memory, which the Ring lets go of with the last of them: they
// came together and leave together.
func (r *reader) entries(after uint64, count int) []*raftpb.Entry {
	boxes := make([]entryBox, count)
	entries := make([]*raftpb.Entry, count)
	for i := range boxes {
		box := &boxes[i]
		box.kind, box.index = raftpb.EntryType(r.byte()), after+1+uint64(i)
		box.term, box.size = r.uvarint(), r.uvarint()
	}
	for i := range boxes {
		entries[i] = boxes[i].entry(r.bytes(boxes[i].size))
	}
	return entries
}

// entryBox is an entry with the fields that it points to.
type entryBox struct {
	e                 raftpb.Entry
	term, index, size uint64
	kind              raftpb.EntryType
}

func (b *entryBox) entry(payload []byte) *raftpb.Entry {
	b.e.Term, b.e.Index = &b.term, &b.index
	if b.kind != 0 {
		b.e.Type = &b.kind
	}
	if len(payload) > 0 {
		b.e.Data = payload
	}
	return &b.e
}
