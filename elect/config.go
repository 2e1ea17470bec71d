package elect

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// Config is what an Elector needs to know once.
type Config struct {
	// Group is the group that it elects for.
	Group entry.GroupID
	// Self is this broker's name.
	Self string
	// Voters are the names of the brokers that vote in the group, the preferred
	// leader first. Every broker must be given the same order: it decides
	// between equal positions too. Self need not be among them (a learner only
	// listens).
	Voters []string
	// Listeners are brokers that don't vote, and are told of each promotion.
	Listeners []string
	// Jitter returns a number in [0, 1), which spreads repeated campaigns.
	Jitter func() float64
	// Gate lets one group of this broker at a time move to its preferred
	// leader. The electors of a broker share one; nil turns balancing off.
	Gate *Gate
	// Timing is how long things take; its zero fields get their defaults.
	Timing Timing
}

// Timing is how long an Elector waits for what.
type Timing struct {
	// Silence without a beat makes a mirror open a round. 300 ms by default.
	Silence time.Duration
	// Agree is the silence after which a mirror joins another's round, and up to
	// which it refuses. 200 ms by default.
	Agree time.Duration
	// Grace is how long after the leader's route is gone a beat may still have
	// been on its way, and proves nothing. 60 ms by default: more than the
	// interval of beats.
	Grace time.Duration
	// Settle is how long a round lasts at least before somebody campaigns: what a
	// dead leader sent last may still be on its way into the positions. 5 ms by
	// default.
	Settle time.Duration
	// Gather is how long a round waits for living peers that don't answer.
	// 50 ms by default.
	Gather time.Duration
	// Resend is how often a mirror in a round sends its position. 50 ms by default.
	Resend time.Duration
	// Fresh is how long a position or a refusal that was heard counts: after
	// that its sender may be dead. 250 ms by default.
	Fresh time.Duration
	// Retry is the shortest time between two campaigns; up to as much again is
	// added by Config.Jitter. 50 ms by default.
	Retry time.Duration
	// Candidacy is how long a vote that was asked for may take (voters fsync)
	// before the candidate starts over. It does so sooner when it sees that it
	// shares the votes with another. 250 ms by default.
	Candidacy time.Duration
	// StandBy is how much later each next best mirror campaigns. 150 ms by default.
	StandBy time.Duration
	// Patience is how long a round waits for the positions that a quorum below
	// a majority needs. 5 s by default.
	Patience time.Duration
	// Hang is how long the oldest write may wait for its fsync before a log
	// counts as hanging. 250 ms by default.
	Hang time.Duration
	// Handing is how long a transfer of leadership may take before another
	// mirror is tried. 300 ms by default.
	Handing time.Duration
	// Stuck is how long a leader watches a mirror that is fenced against it
	// before it hands over, so that the term passes the fence. 1 s by default.
	Stuck time.Duration
	// Settled is how long the preferred leader must have been alive and caught
	// up before leadership is handed to it. 3 s by default.
	Settled time.Duration
	// Quiet is how long after a promotion a group stays where it is. It doubles
	// with each time that the preferred broker was lost while it led in the
	// last 32 Quiets. 10 s by default.
	Quiet time.Duration
}

// caughtUp is how many entries a mirror may lack and still be handed
// leadership: raft lets it catch up first, with proposals refused meanwhile.
const caughtUp = 128

// ErrConfig is returned by New for a Config that cannot work.
var ErrConfig = errors.New("elect: bad configuration")

func (c *Config) validate() error {
	if c.Self == "" || len(c.Self) > maxName {
		return fmt.Errorf("%w: own name %q", ErrConfig, c.Self)
	}
	if c.Jitter == nil {
		return fmt.Errorf("%w: no jitter", ErrConfig)
	}
	if err := validVoters(c.Voters); err != nil {
		return err
	}
	c.Timing.setDefaults()
	return nil
}

func validVoters(voters []string) error {
	if len(voters) == 0 || len(voters) > maxVoters {
		return fmt.Errorf("%w: %d voters", ErrConfig, len(voters))
	}
	for i, name := range voters {
		if name == "" || len(name) > maxName || slices.Contains(voters[:i], name) {
			return fmt.Errorf("%w: voters %q", ErrConfig, voters)
		}
	}
	return nil
}

func (t *Timing) setDefaults() {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&t.Silence, 300 * time.Millisecond},
		{&t.Agree, 200 * time.Millisecond},
		{&t.Grace, 60 * time.Millisecond},
		{&t.Settle, 5 * time.Millisecond},
		{&t.Gather, 50 * time.Millisecond},
		{&t.Resend, 50 * time.Millisecond},
		{&t.Fresh, 250 * time.Millisecond},
		{&t.Retry, 50 * time.Millisecond},
		{&t.Candidacy, 250 * time.Millisecond},
		{&t.StandBy, 150 * time.Millisecond},
		{&t.Patience, 5 * time.Second},
		{&t.Hang, DefaultHang},
		{&t.Handing, 300 * time.Millisecond},
		{&t.Stuck, time.Second},
		{&t.Settled, 3 * time.Second},
		{&t.Quiet, 10 * time.Second},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
}
