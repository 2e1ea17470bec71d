package elect

// ActionKind says what an Action asks of the group's owner.
type ActionKind uint8

// What an Elector asks for.
const (
	// Send: give Message to broker To as a datagram of the class of beats. It
	// may be lost.
	Send ActionKind = iota + 1
	// Forget: call raft's ForgetLeader, without which this mirror ignores votes.
	Forget
	// Campaign: call raft's Campaign.
	Campaign
	// Transfer: call raft's TransferLeader to broker To.
	Transfer
	// Fence: refuse, from now on, every append, heartbeat and snapshot of a term
	// below Term, and then report it in Local.Fence together with a Last that
	// covers all that was taken before. Elector.Fence gives the same number.
	Fence
	// Promoted: Promotion happened. Keep it in the History, log it, count it.
	Promoted
)

var actionNames = [...]string{"nothing", "send", "forget", "campaign", "transfer", "fence", "promoted"}

// String is the kind's name.
func (k ActionKind) String() string {
	if int(k) < len(actionNames) {
		return actionNames[k]
	}
	return "unknown"
}

// Action is one thing that an Elector asks of the group's owner. Actions are to
// be done in their order.
type Action struct {
	Kind ActionKind
	// To is the broker to Send or Transfer to.
	To string
	// Term is that of a Fence.
	Term uint64
	// Message is what to Send.
	Message Message
	// Promotion is what was Promoted.
	Promotion Promotion
}
