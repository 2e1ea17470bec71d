package backbone

import "sync"

// Bounds of what waits for a class's connection. Data frames are bounded by
// their links' Transit already.
const (
	maxControls  = 4096
	maxGrams     = 4096
	maxGramBytes = 8 * mebibyte
	writeBurst   = 256 << 10 // data bytes between two looks at the controls
)

// item is one NATS message to be published.
type item struct {
	subject, reply string
	bytes          []byte
	frame          *frame // of a data frame: bytes are its own
	gram           bool
}

// writer publishes one class's messages from a goroutine of its own: a publish
// into the embedded server may wait for the server to read, and nobody who
// calls Send or SendLink may. Acks overtake data, so that a full link does not
// hold up the credit of the other direction.
type writer struct {
	publish func(item)
	wake    chan struct{}
	done    chan struct{}
	mu      struct {
		sync.Mutex
		closed    bool
		controls  fifo[item]
		data      fifo[item]
		grams     int
		gramBytes int
	}
}

func newWriter(publish func(item)) *writer {
	return &writer{publish: publish, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

func (w *writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// control queues a small message ahead of all data, or drops it.
func (w *writer) control(i item) {
	w.mu.Lock()
	ok := !w.mu.closed && w.mu.controls.len() < maxControls
	if ok {
		w.mu.controls.push(i)
	}
	w.mu.Unlock()
	if ok {
		w.signal()
	}
}

// datagram queues a datagram, or drops it and says false.
func (w *writer) datagram(i item) bool {
	w.mu.Lock()
	ok := !w.mu.closed && w.mu.grams < maxGrams && w.mu.gramBytes+len(i.bytes) <= maxGramBytes
	if ok {
		i.gram = true
		w.mu.grams++
		w.mu.gramBytes += len(i.bytes)
		w.mu.data.push(i)
	}
	w.mu.Unlock()
	if ok {
		w.signal()
	}
	return ok
}

// ordered queues a data frame, or a control that must not overtake data.
func (w *writer) ordered(i item) {
	w.mu.Lock()
	closed := w.mu.closed
	if !closed {
		w.mu.data.push(i)
	}
	w.mu.Unlock()
	switch {
	case !closed:
		w.signal()
	case i.frame != nil:
		i.frame.release()
	}
}

// run publishes until close is called.
func (w *writer) run() {
	defer close(w.done)
	var burst []item
	for range w.wake {
		for {
			var closed bool
			if burst, closed = w.take(burst[:0]); closed {
				return
			}
			if len(burst) == 0 {
				break
			}
			for k, i := range burst {
				w.publish(i)
				if i.frame != nil {
					i.frame.release()
				}
				burst[k] = item{}
			}
		}
	}
}

// take moves what is to be published next to burst.
func (w *writer) take(burst []item) (_ []item, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.mu.controls.len() > 0 {
		burst = append(burst, w.mu.controls.pop())
	}
	for bytes := 0; w.mu.data.len() > 0 && bytes < writeBurst; {
		i := w.mu.data.pop()
		if i.gram {
			w.mu.grams--
			w.mu.gramBytes -= len(i.bytes)
		}
		bytes += len(i.bytes) + messageCost
		burst = append(burst, i)
	}
	return burst, w.mu.closed
}

// close drops what waits and joins run.
func (w *writer) close() {
	w.mu.Lock()
	w.mu.closed = true
	for w.mu.data.len() > 0 {
		if i := w.mu.data.pop(); i.frame != nil {
			i.frame.release()
		}
	}
	w.mu.Unlock()
	w.signal()
	<-w.done
}
