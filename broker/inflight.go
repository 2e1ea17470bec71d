package broker

const (
	// maxInFlightBytes and maxInFlightCount bound what a connection has
	// submitted to groups and not yet heard of. A single larger message passes
	// when nothing else is on its way.
	maxInFlightBytes = 8 << 20
	maxInFlightCount = 256
)

// inFlight counts the submissions that a connection waits for. It is guarded
// by its outbox's mutex.
type inFlight struct {
	bytes, count int
}

// fits reports whether a submission of size bytes may go now.
func (f *inFlight) fits(size int) bool {
	return f.count == 0 || f.count < maxInFlightCount && f.bytes+size <= maxInFlightBytes
}

// depart waits until a submission of size bytes may go and counts it. It waits
// no longer when the connection has died.
func (o *outbox) depart(size int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.mu.inFlight.fits(size) && !o.mu.dead {
		o.room.Wait()
	}
	o.mu.inFlight.count++
	o.mu.inFlight.bytes += size
}

// arrived takes a submission out of the count. REQUIRES: mu held.
func (o *outbox) arrived(size int) {
	o.mu.inFlight.count--
	o.mu.inFlight.bytes -= size
	o.room.Broadcast()
}

// mayRead waits while the client must not be read: it is blocked by an alarm,
// or it doesn't read what its publishes cause. It reports whether it waited.
func (o *outbox) mayRead() (waited bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.mu.dead && !o.mu.ending && o.held() {
		waited = true
		o.room.Wait()
	}
	o.pressed.Store(false)
	return waited
}

// held reports whether reading must stop. REQUIRES: mu held.
func (o *outbox) held() bool {
	return o.mu.blocked != "" && o.mu.published ||
		len(o.mu.next.control)+o.mu.unwritten > maxControlBytes
}
