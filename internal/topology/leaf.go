package topology

import (
	"cmp"
	"slices"
)

// leaf is the destinations that one place in an index leads to: each once, with
// the number of bindings that put it there. Both lists are sorted, queues by
// ordinal and exchanges by name, so that a route through one leaf needs neither
// sorting nor the search for what comes twice. Adding is O(log n) for a queue
// that is younger than those there, else O(n) (8 bytes moved for each).
type leaf struct {
	queues    []queueCount
	exchanges []exchangeCount
}

type queueCount struct {
	queue *Queue
	n     uint32
}

type exchangeCount struct {
	exchange *exchange
	n        uint32
}

func (l *leaf) empty() bool { return len(l.queues) == 0 && len(l.exchanges) == 0 }

func (l *leaf) findQueue(q *Queue) (int, bool) {
	return slices.BinarySearchFunc(l.queues, q, func(c queueCount, q *Queue) int {
		return cmp.Compare(c.queue.ordinal, q.ordinal)
	})
}

func (l *leaf) findExchange(x *exchange) (int, bool) {
	return slices.BinarySearchFunc(l.exchanges, x, func(c exchangeCount, x *exchange) int {
		return cmp.Compare(c.exchange.Name, x.Name)
	})
}

func (l *leaf) add(b *binding) {
	if b.queue != nil {
		i, found := l.findQueue(b.queue)
		if !found {
			l.queues = slices.Insert(l.queues, i, queueCount{queue: b.queue})
		}
		l.queues[i].n++
		return
	}
	i, found := l.findExchange(b.exchange)
	if !found {
		l.exchanges = slices.Insert(l.exchanges, i, exchangeCount{exchange: b.exchange})
	}
	l.exchanges[i].n++
}

// remove takes b out and reports whether the leaf is empty now.
// REQUIRES: b was added.
func (l *leaf) remove(b *binding) bool {
	if b.queue != nil {
		i, found := l.findQueue(b.queue)
		if !found {
			panic("topology: binding to queue " + b.queue.Name + " isn't in its leaf")
		}
		if l.queues[i].n--; l.queues[i].n == 0 {
			l.queues = slices.Delete(l.queues, i, i+1)
		}
		return l.empty()
	}
	i, found := l.findExchange(b.exchange)
	if !found {
		panic("topology: binding to exchange " + b.exchange.Name + " isn't in its leaf")
	}
	if l.exchanges[i].n--; l.exchanges[i].n == 0 {
		l.exchanges = slices.Delete(l.exchanges, i, i+1)
	}
	return l.empty()
}

// visit adds the leaf's destinations to the walk.
func (l *leaf) visit(w *walk) {
	if l.empty() {
		return
	}
	w.leaves++
	for i := range l.queues {
		w.dst = append(w.dst, l.queues[i].queue)
	}
	for i := range l.exchanges {
		w.push(l.exchanges[i].exchange)
	}
}
