package elect

import (
	"errors"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// MessageKind says what one Elector tells another.
type MessageKind uint8

// What electors tell one another.
const (
	// Position: the sender misses the leader and has got as far as Last.
	PositionTold MessageKind = iota + 1
	// Refused: the sender hears the leader Name of Term.
	Refused
	// Handing: the sender, leader of Term, transfers leadership to Name.
	Handing
	// PromotionTold: the sender leads Term, and Promotion tells how it came.
	PromotionTold
)

// Message is what one Elector tells another, of one group.
type Message struct {
	Kind  MessageKind
	Group entry.GroupID
	// Term is the sender's, or the one of the leader that it speaks of.
	Term uint64
	// Round is the lowest term that the round's leader can have.
	Round uint64
	// Last is the sender's position.
	Last entry.Position
	// Fenced says that the sender refuses leaders of terms below Round.
	Fenced bool
	// Waits says that the group needs fenced positions.
	Waits bool
	// Unfit says that the sender's log hangs or that its broker is stopping.
	Unfit bool
	// Reason is that of a Handing, or of a PromotionTold.
	Reason Reason
	// Name is the leader that is heard or handed to.
	Name string
	// Promotion is that of a PromotionTold; Group, Term, Reason and When are
	// not sent with it.
	Promotion Promotion
}

const (
	maxName   = 255
	maxVoters = 64
)

// ErrMessage is returned for bytes that no broker sends.
var ErrMessage = errors.New("elect: malformed message")

// AppendMessage appends m to the datagram dst, which is empty or holds
// messages already.
func AppendMessage(dst []byte, m Message) []byte { return dst }

// ParseMessages calls fn with each message of a datagram. Nothing of a message
// aliases b.
//
// Errors: ErrMessage; messages before the malformed one were handed to fn.
func ParseMessages(b []byte, fn func(Message)) error { return nil }

// IsBeats says whether a datagram holds beats, for ParseBeats; else it is for
// ParseMessages.
func IsBeats(b []byte) bool { return false }
