// Package elect decides, for each group, when its leader is lost and which
// mirror is to follow it: the most caught-up of those that live. It elects
// nobody itself, raft does that: it tells the owner of a group when to make
// raft forget the leader, campaign, or hand leadership over.
//
// Everything here is pure: no goroutine, no clock, no I/O and no randomness of
// its own. Time comes with each input, and what is to be done comes back as
// actions.
//
//	beats of other brokers ──▶ ParseBeats ──▶ Elector.Beat ┐
//	datagrams of other brokers ▶ ParseMessages ▶ .Receive  │
//	the backbone: a route came, went ────▶ .PeerUp, .PeerDown ├─▶ Elector (one a group)
//	the group's loop: raft's state ───────────────▶ .State │      │
//	time ──────────────────────────────────────────▶ .Tick ┘      ▼
//	                                      Actions: Send, Forget, Campaign,
//	the group's loop ──▶ Beater.Lead       Transfer, Fence, Promoted
//	every 50 ms ───────▶ Beater.Make ──▶ one datagram for every peer
//
// # A round
//
// A mirror that has no beat of its leader for Timing.Silence, or is told that
// the leader's route is gone, opens a round: it forgets the leader and sends
// its position to the others. One that misses the leader too (for
// Timing.Agree: it need not be as patient as the first) joins and does the
// same; one that still hears it refuses. So a single deaf mirror deposes
// nobody: it takes a majority that agrees. Once every living peer has answered,
// or Timing.Gather has passed, the mirrors rank the positions that they heard
// and the best campaigns, and again every Timing.Retry until a leader is known.
// The next ones stand by, Timing.StandBy apart.
//
// A round is numbered by the lowest term that the new leader can have. A mirror
// which hears of a higher number takes it over; a round ends with a leader of
// its number or above, or when the old leader is heard again.
//
// # Ack quorums below a majority
//
// Where messages are confirmed at n disks, 1 < n < majority, a majority may not
// know of a confirmed message: the winner needs the positions of N-n+1 members,
// of which at least one is among any n (Flexible Paxos, Howard, Malkhi and
// Spiegelman 2016, section 3). Such a position is a promise: a mirror first
// refuses what leaders of terms below the round's send (the action Fence), and
// tells its position after that. A mirror fences only when a majority agrees
// that the leader is lost, since it can't take the promise back. It waits for
// the missing ones up to Timing.Patience; after that the best that is known is
// promoted, which is counted as unclean.
//
// The promise must outlive a restart: a leader that is cut off from the others
// may have this mirror alone, and confirm with it what the round never hears of.
//
// While a majority agrees, mirrors of any group stop listening to the old leader
// (Elector.Refuses), but take that back when they hear it again.
//
// # Messages
//
// Integers are uvarints, strings a uvarint length and bytes. A datagram holds
// one beat of all groups that its sender leads, or any number of messages.
//
//	beats:     1 | 'b' | n × { group | term | position term | position index }
//	messages:  1 | 'm' | n × { kind | group | term | round | position term | position index
//	                           | flags | reason | name | promotion if kind is Leading }
//	promotion: from | to | clean | leaderless in µs | n | n × { name | term | index | flags }
package elect
