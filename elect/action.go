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
	// Campaign: call raft's Campaign. Where Term is not 0 the election must be for
	// Term and no other: raft's term is first moved to Term-1 where it is lower
	// (replicate's Campaign does so for a fenced member), and where it is Term or
	// higher by now nothing is done.
	Campaign
	// Transfer: call raft's TransferLeader to broker To.
	Transfer
	// Fence: promise to refuse, from now on and for ever, what leaders of terms
	// below Term send, and report in Local.Fence when the promise is durable:
	// replicate's Fence and Fenced.
	Fence
	// Promoted: Promotion happened. Keep it in a History, log it, count it.
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
// be done in their order, and before another message is stepped into raft.
type Action struct {
	Kind ActionKind
	// To is the broker to Send or Transfer to.
	To string
	// Term is that of a Fence or a Campaign.
	Term uint64
	// Message is what to Send.
	Message Message
	// Promotion is what was Promoted, nil in any other action.
	Promotion *Promotion
}

func (e *Elector) act(a Action) { e.actions = append(e.actions, a) }

func (e *Elector) send(to string, m Message) {
	m.Group = e.config.Group
	e.act(Action{Kind: Send, To: to, Message: m})
}

// broadcast sends m to every other voter, those that seem dead too: the
// backbone may be slower to know better than they are.
func (e *Elector) broadcast(m Message) {
	for i := range e.voters {
		if i != e.self {
			e.send(e.voters[i].name, m)
		}
	}
}
