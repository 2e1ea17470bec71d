package admin

import "time"

// Cluster is the brokers and the changes of leaders as one broker sees them. A
// broker alone is a cluster of one.
type Cluster struct {
	// AckQuorum is the default: "majority", "leader", "all" or a number.
	AckQuorum string
	Brokers   []Broker
	// Promotions are the newest ones, oldest first.
	Promotions []Promotion
	// PromotionsTotal counts those that this broker has seen since its start,
	// PromotionsUnclean those of them that may have lost a confirmed message.
	PromotionsTotal, PromotionsUnclean uint64
}

// Broker is a member of the cluster.
type Broker struct {
	Name    string
	Address string // of its backbone, "" for a broker alone
	// Up says that it can be reached, and takes part.
	Up bool
	// Since is when that changed last, as far as this broker has seen.
	Since time.Time
	// Stranger says that it has come back without its data, and is kept out.
	Stranger bool
}

// RoleNone is the role of a broker that has no copy of a group.
const RoleNone = "none"

// Group is one replicated log as this broker sees it.
type Group struct {
	ID                    uint32
	Role                  string   // "leader", "follower", "candidate", "learner", RoleNone
	Leader                string   // name of the leading broker, "" if unknown
	Preferred             string   // the broker that is to lead it when all are well
	Members               []string // the brokers that have a copy, Preferred first
	Term                  uint64
	Commit, Applied, Last uint64 // indexes
	// LastTerm is the term of the last entry.
	LastTerm uint64
	// Lag is how many entries this broker lacks of those that the leader told of
	// last.
	Lag uint64
	// Mirrors are the other members, as the leader knows them; nil elsewhere.
	Mirrors []Mirror
}

// Mirror is what a group's leader knows of another member.
type Mirror struct {
	Name  string
	Match uint64 // index up to which its disk has the leader's log
	Lag   uint64 // entries that it lacks
	Heard bool   // it answered lately
	// Behind says that it needs entries that are no longer kept: it waits for a
	// checkpoint.
	Behind bool
}

// Promotion is one change of a group's leader.
type Promotion struct {
	Group  uint32
	When   time.Time
	From   string // "" if none was known
	To     string
	Term   uint64
	Reason string // "silent", "gone", "handed over", …
	// Clean is false where too few positions could be heard for the ack quorum in
	// use: a confirmed message may be lost.
	Clean      bool
	Leaderless time.Duration // since the last sign of life of the leader before
	// Positions are those that were compared, best first; none for a transfer.
	Positions []Standing
}

// Standing is the position of one member in a promotion.
type Standing struct {
	Broker      string
	Term, Index uint64
	Fenced      bool // it was a promise to take nothing more from older leaders
	Unfit       bool // its log hung, or it was being stopped
}
