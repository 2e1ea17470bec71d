package client

import (
	"slices"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"
)

// settlement is what becomes of a delivery.
type settlement int

const (
	ack settlement = iota
	reject
	requeue
)

// settlements tells the broker how the deliveries of one channel were settled.
// One goroutine writes: what is settled while it does goes out together, as one
// ack where the deliveries are in a row.
type settlements struct {
	channel *amqp.Channel
	wake    chan struct{}
	done    chan struct{}

	mu struct {
		sync.Mutex
		acks   []uint64 // delivery tags
		others map[uint64]settlement
		closed bool
	}

	// Owned by run. All tags up to low are settled, and those in ahead.
	low   uint64
	ahead map[uint64]struct{}
}

func newSettlements(ch *amqp.Channel) *settlements {
	s := &settlements{channel: ch, wake: make(chan struct{}, 1), done: make(chan struct{}), ahead: make(map[uint64]struct{})}
	s.mu.others = make(map[uint64]settlement)
	go s.run()
	return s
}

// settle takes a delivery's end. It reports false where the channel is gone.
func (s *settlements) settle(tag uint64, how settlement) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed || s.channel.IsClosed() {
		return false
	}
	if how == ack {
		s.mu.acks = append(s.mu.acks, tag)
	} else {
		s.mu.others[tag] = how
	}
	signal(s.wake)
	return true
}

// close writes what is left, as far as the broker takes it within closeTimeout.
func (s *settlements) close() {
	s.mu.Lock()
	s.mu.closed = true
	s.mu.Unlock()
	signal(s.wake)
	patiently(func() { <-s.done })
}

func (s *settlements) run() {
	defer close(s.done)
	var acks []uint64
	for range s.wake {
		s.mu.Lock()
		acks, s.mu.acks = s.mu.acks, acks[:0]
		others := s.mu.others
		if len(others) > 0 {
			s.mu.others = make(map[uint64]settlement)
		} else {
			others = nil
		}
		closed := s.mu.closed
		s.mu.Unlock()
		if s.write(acks, others) != nil || closed {
			return
		}
	}
}

// write tells the broker of deliveries that were settled.
func (s *settlements) write(acks []uint64, others map[uint64]settlement) error {
	for tag, how := range others {
		if err := s.channel.Nack(tag, false, how == requeue); err != nil {
			return err
		}
		s.ahead[tag] = struct{}{}
	}
	slices.Sort(acks)
	through, rest := s.advance(acks)
	if through > 0 {
		if err := s.channel.Ack(through, true); err != nil {
			return err
		}
	}
	for _, tag := range rest {
		if err := s.channel.Ack(tag, false); err != nil {
			return err
		}
		s.ahead[tag] = struct{}{}
	}
	return nil
}

// advance moves low over what is settled in a row. It returns the newest of the
// acks that one ack can stand for, 0 for none, and the acks that are left.
func (s *settlements) advance(acks []uint64) (through uint64, rest []uint64) {
	for {
		next := s.low + 1
		if _, settled := s.ahead[next]; settled {
			delete(s.ahead, next)
		} else if len(acks) > 0 && acks[0] == next {
			through, acks = next, acks[1:]
		} else {
			return through, acks
		}
		s.low = next
	}
}
