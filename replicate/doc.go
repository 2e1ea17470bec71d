// Package replicate drives one group's raft core (go.etcd.io/raft/v3, RawNode
// with AsyncStorageWrites): it hands the core's writes to the broker's log, its
// messages to the mirrors, and its committed entries to the group's state
// machine. It decides nothing that raft decides.
//
// A Node is a pure object: no goroutine, no clock, no I/O of its own. One
// goroutine, the group's loop, owns it and calls everything but the Ring's Get.
//
//	 owner's loop               Node                       the broker's log
//	──────────────   ───────────────────────────────   ──────────────────────
//	 Propose ──────▶ raft appends an entry
//	 Advance ──────▶ Ready: messages ─▶ Transport
//	                 MsgStorageAppend: entries ─▶ Ring
//	                                   entries, hard state ─────▶ Append
//	                   its responses wait in the write queue       │ fsync
//	 (a channel) ◀────────────────── Config.Notify ◀──────────────┘ done
//	 Completed ────▶ responses of every write up to this one:
//	                 own ones are stepped, the others go out
//	 Advance ──────▶ MsgStorageApply: entries from the Ring, or from the log
//	                 in bounded pieces ─▶ apply(term, index, payload)
//	                 more to do: the owner looks after its ticks and returns
//	 Confirmed ────▶ the index that each ack quorum has reached
//
// # What is durable when
//
//   - A message that raft attaches to a write (an answer to an append or to a
//     vote, and the leader's own count of itself) leaves the write queue only
//     when that write and every write before it are durable. It does so also
//     when it comes with nothing to write: a vote's answer queues behind the
//     fsync of whatever was handed over before it.
//
//   - A changed term or vote is a write of its own. A changed commit index is
//     not: it is advisory and rides along with the next write (Raft, section 3.8
//     of the thesis lists it as volatile).
//
//   - Entries are applied only once they are committed and durable here.
//
//   - What was proposed is confirmed as Confirmed says: by this disk, by those
//     that mirrors told of, or by the commit. A mirror's word counts only for
//     the leader in whose term it was given.
//
//   - A fence is durable as a term of its own, see Fence.
//
// # Mirrors
//
// What goes to them is raft's messages, in the encoding that codec.go draws;
// Group finds those that several mirrors need alike. The Transport may lose,
// double and reorder; an owner who knows that something was lost calls
// ReportUnreachable, else the next heartbeat finds out.
//
// A mirror that is far behind is served from the log at the owner's pace, and what
// it needs is read on another goroutine, see feed.go. One that needs what the log
// has cut off gets a checkpoint by way of the
// owners, see install.go. KeepFrom says how far the log may be cut so that this
// is rare.
//
// # Elections
//
// Raft holds them; whoever knows better when, and who should win, uses
// ForgetLeader, Campaign, Raise, Fence and HoldElections. None of them can make
// raft elect a member that lacks something committed. An owner whose process
// stood still calls Paused before anything else.
//
// # What a log record carries
//
// A normal entry's payload is kept as it is. A configuration change is told
// apart by Entry.Kind, which the log stores as one opaque byte; its payload is
// raft's protobuf encoding of it. The package has no format of its own.
//
// # What fails
//
// An error of the log is final: the Node takes nothing more, answers nothing
// more, and reports ErrFailed for ever. So are an error of apply, an entry that
// cannot be read back, and a contradiction that raft finds between its log and
// what its peers say: they end this group on this broker, not the process.
package replicate
