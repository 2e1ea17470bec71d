package log

import (
	"errors"
	"slices"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// How a mirror that fell behind, or is new, gets what a checkpoint does not
// hold: the bodies of the entries at or below it that are live. On the side
// that has them, LiveEntries names them and ReadEntry reads them; on the side
// that lacks them, Refill writes them, in as many calls as it takes, and then
// Checkpoint makes state and bodies the group's at once.
//
// Until then they are nothing to the group: a record of a kind of its own
// keeps them apart, so that neither Bounds nor opening sees a log with holes,
// and they do not touch what the group holds at those indexes, which may have
// been promised to a leader. A transfer that ends halfway, by a crash or by a
// lost leader, leaves them where they are, through reopening and compaction:
// the next one need not bring them again, as what is committed at an index is
// the same whoever sends it. If none comes because the group's own log gets
// there first, the floor that passes them drops them.

// Refill writes live entries at or below a checkpoint that is to come, in any
// order. They must be committed. Those that will be there anyway are skipped:
// refilled before, or the group's own at or below its commit. (One above the
// commit is written even if it is there: Checkpoint discards the group's own.)
// Entries at or below the present floor are the group's at once.
//
// It goes through the writer as Append does, with its rules and bounds: group
// commit, payloads that must not change until done, done with an error once the
// log has stopped. Entries that no record can hold are ErrInvalidAppend, told
// before it returns. Afterwards Read finds the entries, except where the group
// has one of its own at the index. Once a Checkpoint has passed them they are
// live until Release or Retain.
func (l *Log) Refill(id entry.GroupID, entries []Entry, done func(error)) {
	var err error
	for k := range entries {
		err = errors.Join(err, checkEntry(id, &entries[k]))
	}
	if err == nil && !l.queue.push(Append{Group: id, Entries: entries, Done: done}, true) {
		err = ErrClosed
	}
	if err != nil && done != nil {
		done(err)
	}
}

// LiveEntries calls fn with the index of each of the group's entries in after <
// index <= upto whose body is held and not released, in ascending order, until
// it returns false. What is released while it runs may or may not be told. fn
// is called without a lock held. O(entries held up to upto).
func (l *Log) LiveEntries(id entry.GroupID, after, upto uint64, fn func(index uint64) bool) {
	l.mu.RLock()
	var chunks []uint64
	if g := l.mu.known(id); g != nil {
		for n := range g.places.chunks {
			if n >= after/chunkEntries && n <= upto/chunkEntries {
				chunks = append(chunks, n)
			}
		}
	}
	l.mu.RUnlock()
	slices.Sort(chunks)
	live := make([]uint64, 0, chunkEntries)
	for _, n := range chunks {
		live = l.liveWithin(live[:0], id, n, after, upto)
		for _, i := range live {
			if !fn(i) {
				return
			}
		}
	}
}

func (l *Log) liveWithin(dst []uint64, id entry.GroupID, chunk, after, upto uint64) []uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	g := l.mu.known(id)
	held := g.places.within(dst, chunk, after, upto)
	return slices.DeleteFunc(held, func(i uint64) bool { return g.places.find(i).released })
}

// stageRefill encodes what is not there yet.
func (w *writer) stageRefill(a *Append) {
	w.group(a.Group)
	for k := range a.Entries {
		if e := &a.Entries[k]; w.lacks(a.Group, e.Index) {
			w.stageEntry(kindRefill, a.Group, e)
		}
	}
	if w.log.options.Fsync == Always {
		w.mustSync = true
	}
}

func (w *writer) lacks(id entry.GroupID, i uint64) bool {
	w.log.mu.RLock()
	defer w.log.mu.RUnlock()
	return w.log.mu.lacks(w.log.mu.groups[id], i)
}

// lacks tells whether g would be without entry i after a checkpoint beyond it.
func (c *catalog) lacks(g *group, i uint64) bool {
	if g.refilled.find(i) != nil {
		return false
	}
	p := g.places.find(i)
	return p == nil || p.released || i > g.committed()
}

// follow raises the floor to a checkpoint that continues the group's log. What
// was refilled below it is not needed: the group's own entries got there.
func (c *catalog) follow(g *group, at entry.Position, replaced []replacement) {
	g.replaced = replaced
	c.raiseFloor(g, at)
	for n := range g.refilled.chunks {
		for _, i := range g.refilled.within(nil, n, 0, at.Index) {
			c.forget(&g.refilled, i)
		}
	}
}

// replace puts a checkpoint in the place of the group's log, and makes what was
// refilled below it the group's. The last of replaced is its own.
func (c *catalog) replace(g *group, at entry.Position, replaced []replacement) {
	from := replaced[len(replaced)-1].from
	for i := from; i <= g.last; i++ {
		c.forget(&g.places, i)
	}
	g.last = max(g.floor.Index, min(g.last, from-1))
	g.replaced = replaced
	c.raiseFloor(g, at)
	for n, refilled := range g.refilled.chunks {
		// Most chunks are taken over as they are, so that readers wait little.
		if g.places.chunks[n] == nil && n < at.Index/chunkEntries {
			g.places.chunks[n] = refilled
			delete(g.refilled.chunks, n)
			continue
		}
		for _, i := range g.refilled.within(nil, n, 0, at.Index) {
			if g.places.find(i) != nil {
				c.forget(&g.refilled, i)
				continue
			}
			g.places.put(i, *g.refilled.find(i))
			g.refilled.remove(i)
		}
	}
}
