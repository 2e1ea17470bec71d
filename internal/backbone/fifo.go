package backbone

// fifo is a queue that keeps its memory while it is short.
type fifo[T any] struct {
	items []T
	first int
}

func (q *fifo[T]) len() int { return len(q.items) - q.first }

func (q *fifo[T]) push(item T) {
	if q.first > 32 && q.first*2 >= len(q.items) {
		n := copy(q.items, q.items[q.first:])
		clear(q.items[n:])
		q.items, q.first = q.items[:n], 0
	}
	q.items = append(q.items, item)
}

// head is the oldest item. REQUIRES: len() > 0.
func (q *fifo[T]) head() T { return q.items[q.first] }

// pop removes the oldest item. REQUIRES: len() > 0.
func (q *fifo[T]) pop() T {
	var zero T
	item := q.items[q.first]
	q.items[q.first] = zero
	q.first++
	if q.first == len(q.items) {
		q.items, q.first = q.items[:0], 0
		if cap(q.items) > 4096 {
			q.items = nil
		}
	}
	return item
}
