package elect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// MessageKind says what one Elector tells another.
type MessageKind uint8

// What electors tell one another.
const (
	// Missing: the sender misses the leader, and has got as far as Last.
	Missing MessageKind = iota + 1
	// Hearing: the sender hears the leader Name of Term, and refuses the round.
	Hearing
	// Handing: the sender, leader of Term, transfers leadership to Name.
	Handing
	// Leading: the sender leads Term, and Promotion tells how that came.
	Leading
	// Leaving: the sender is being stopped, and is not to lead any more.
	Leaving
)

// Message is what one Elector tells another, of one group.
type Message struct {
	Kind  MessageKind
	Group entry.GroupID
	// Term is the sender's, or the one of the leader that it speaks of.
	Term uint64
	// Round is the number of the sender's round, or of the one it refuses.
	Round uint64
	// Last is the sender's position.
	Last entry.Position
	// Fenced says that the sender refuses leaders of terms below Round.
	Fenced bool
	// Waits says that the group needs fenced positions.
	Waits bool
	// Unfit says that the sender's log hangs or that its broker is stopping.
	Unfit bool
	// Bids says that the sender has asked for votes in Term.
	Bids bool
	// Reason is that of a Handing or Leading.
	Reason Reason
	// Name is the leader that is heard or handed to.
	Name string
	// Promotion is that of Leading. Its Group, Term and Reason are the
	// message's; When is not sent. nil in any other kind.
	Promotion *Promotion
}

const (
	version      = 1
	kindBeats    = 'b'
	kindMessages = 'm'

	flagFenced = 1 << 0
	flagWaits  = 1 << 1
	flagUnfit  = 1 << 2
	flagBids   = 1 << 3
	flagsAll   = flagFenced | flagWaits | flagUnfit | flagBids

	maxName   = 255
	maxVoters = 64
)

// ErrMessage is returned for bytes that no broker sends.
var ErrMessage = errors.New("elect: malformed datagram")

// AppendMessage appends m to the datagram dst, which is empty or holds
// messages already.
//
// REQUIRES: a Leading message has its Promotion.
func AppendMessage(dst []byte, m Message) []byte {
	if len(dst) == 0 {
		dst = append(dst, version, kindMessages)
	}
	dst = append(dst, byte(m.Kind))
	dst = binary.AppendUvarint(dst, uint64(m.Group))
	dst = binary.AppendUvarint(dst, m.Term)
	dst = binary.AppendUvarint(dst, m.Round)
	dst = appendPosition(dst, m.Last)
	dst = append(dst, flags(m.Fenced, m.Waits, m.Unfit, m.Bids), byte(m.Reason))
	dst = appendString(dst, m.Name)
	if m.Kind == Leading {
		dst = appendPromotion(dst, *m.Promotion)
	}
	return dst
}

func appendPromotion(dst []byte, p Promotion) []byte {
	dst = appendString(dst, p.From)
	dst = appendString(dst, p.To)
	clean := byte(0)
	if p.Clean {
		clean = 1
	}
	dst = append(dst, clean)
	dst = binary.AppendUvarint(dst, uint64(max(p.Leaderless, 0)/time.Microsecond))
	dst = binary.AppendUvarint(dst, uint64(len(p.Positions)))
	for _, s := range p.Positions {
		dst = appendString(dst, s.Broker)
		dst = appendPosition(dst, s.Position)
		dst = append(dst, flags(s.Fenced, false, s.Unfit, false))
	}
	return dst
}

func appendPosition(dst []byte, p entry.Position) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(dst, p.Term), p.Index)
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func flags(fenced, waits, unfit, bids bool) byte {
	var b byte
	if fenced {
		b |= flagFenced
	}
	if waits {
		b |= flagWaits
	}
	if unfit {
		b |= flagUnfit
	}
	if bids {
		b |= flagBids
	}
	return b
}

// IsBeats says whether a datagram is one of beats, for ParseBeats; any other is
// for ParseMessages.
func IsBeats(b []byte) bool { return len(b) >= 2 && b[0] == version && b[1] == kindBeats }

// ParseMessages calls fn with each message of a datagram. Nothing of a message
// aliases b.
//
// Errors: ErrMessage; messages before the malformed one were handed to fn.
func ParseMessages(b []byte, fn func(Message)) error {
	r, err := newReader(b, kindMessages)
	if err != nil {
		return err
	}
	for len(r.rest) > 0 {
		m := r.message()
		if r.bad {
			return fmt.Errorf("%w: %d bytes before its end", ErrMessage, len(r.rest))
		}
		fn(m)
	}
	return nil
}

// reader takes a datagram apart. Once it is bad it returns zeros.
type reader struct {
	rest []byte
	bad  bool
}

func newReader(b []byte, kind byte) (reader, error) {
	if len(b) < 2 || b[0] != version || b[1] != kind {
		return reader{}, fmt.Errorf("%w: it begins with % x", ErrMessage, b[:min(len(b), 2)])
	}
	return reader{rest: b[2:]}, nil
}

func (r *reader) message() Message {
	m := Message{Kind: MessageKind(r.byte(byte(Leaving)))}
	r.bad = r.bad || m.Kind == 0
	m.Group, m.Term, m.Round, m.Last = r.group(), r.uvarint(), r.uvarint(), r.position()
	f := r.byte(flagsAll)
	m.Fenced, m.Waits, m.Unfit, m.Bids = f&flagFenced != 0, f&flagWaits != 0, f&flagUnfit != 0, f&flagBids != 0
	m.Reason = Reason(r.byte(byte(Raft)))
	m.Name = r.string()
	if m.Kind == Leading {
		p := r.promotion()
		p.Group, p.Term, p.Reason = m.Group, m.Term, m.Reason
		m.Promotion = &p
	}
	return m
}

func (r *reader) promotion() Promotion {
	p := Promotion{From: r.string(), To: r.string(), Clean: r.byte(1) == 1}
	const longest = 1 << 50 // about 36 years, in µs
	elapsed := r.uvarint()
	n := r.uvarint()
	if elapsed > longest || n > maxVoters {
		r.bad = true
		return Promotion{}
	}
	p.Leaderless = time.Duration(elapsed) * time.Microsecond
	for range n {
		s := Standing{Broker: r.string(), Position: r.position()}
		f := r.byte(flagsAll)
		s.Fenced, s.Unfit = f&flagFenced != 0, f&flagUnfit != 0
		if r.bad {
			return Promotion{}
		}
		p.Positions = append(p.Positions, s)
	}
	return p
}

// byte takes a byte of at most highest.
func (r *reader) byte(highest byte) byte {
	if r.bad || len(r.rest) == 0 || r.rest[0] > highest {
		r.bad = true
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *reader) uvarint() uint64 {
	n, w := binary.Uvarint(r.rest)
	if r.bad || w <= 0 {
		r.bad = true
		return 0
	}
	r.rest = r.rest[w:]
	return n
}

func (r *reader) group() entry.GroupID {
	n := r.uvarint()
	if n > 1<<32-1 {
		r.bad = true
		return 0
	}
	return entry.GroupID(n)
}

func (r *reader) position() entry.Position {
	return entry.Position{Term: r.uvarint(), Index: r.uvarint()}
}

func (r *reader) string() string {
	n := r.uvarint()
	if r.bad || n > maxName || n > uint64(len(r.rest)) {
		r.bad = true
		return ""
	}
	s := string(r.rest[:n])
	r.rest = r.rest[n:]
	return s
}
