package broker

import (
	"github.com/mirrormq/mirrormq/internal/entry"
)

// Bodies come along with deliveries where the gateway's broker has no copy of the
// group: as far as the leader has them in memory, they are not large, and the
// link has room. The others are fetched when they are to be written.

const (
	// maxEnclosed bounds the bodies that come along with one message of
	// deliveries.
	maxEnclosed = 1 << 20
	// maxKeptEnclosed bounds what of them a gateway keeps for writers that have
	// not come to it. A consumer that stops reading so costs no more; what is
	// given up is fetched again.
	maxKeptEnclosed = 16 << 20
)

// enclose adds bodies to m's deliveries for a gateway. Called on the loop's
// goroutine.
func (g *group) enclose(to string, m *wireMessage) {
	if g.members == nil || g.members(to) {
		return
	}
	bodies := make([][]byte, len(m.deliveries))
	size := 0
	for i := range m.deliveries {
		ref := m.deliveries[i].Ref
		payload, there := g.bodies.recent(ref.Index)
		end := uint64(ref.Offset) + uint64(ref.Size)
		if !there || end > uint64(len(payload)) || size+int(ref.Size) > maxEnclosed {
			continue
		}
		bodies[i] = payload[ref.Offset:end]
		size += int(ref.Size)
	}
	if size > 0 && (g.room == nil || g.room(to, size)) {
		m.bodies = bodies
	}
}

// enclosed is the bodies that came along with deliveries, until they are written.
// What came in one message is given up together, the oldest first, since it
// shares memory.
type enclosed struct {
	bodies  map[entry.Ref]*enclosedBody
	parcels []*parcel
	bytes   int
}

type enclosedBody struct {
	parcel *parcel
	body   []byte
	// wanted is how many deliveries it came with: a message may be in several
	// queues.
	wanted int
}

// parcel is what came in one message.
type parcel struct {
	refs  []entry.Ref
	bytes int
	left  int // bodies still kept
}

// put keeps the bodies of a message of deliveries.
func (e *enclosed) put(m *wireMessage) {
	p := &parcel{}
	for i, body := range m.bodies {
		if len(body) == 0 {
			continue
		}
		ref := m.deliveries[i].Ref
		if b := e.bodies[ref]; b != nil {
			b.wanted++
			continue
		}
		if e.bodies == nil {
			e.bodies = make(map[entry.Ref]*enclosedBody)
		}
		e.bodies[ref] = &enclosedBody{p, body, 1}
		p.refs = append(p.refs, ref)
		p.bytes += len(body)
		p.left++
	}
	if p.left == 0 {
		return
	}
	e.parcels = append(e.parcels, p)
	e.bytes += p.bytes
	for e.bytes > maxKeptEnclosed && len(e.parcels) > 1 {
		e.drop(e.parcels[0])
	}
	e.trim()
}

// take returns a body, once for each delivery that it came with.
func (e *enclosed) take(ref entry.Ref) ([]byte, bool) {
	b := e.bodies[ref]
	if b == nil {
		return nil, false
	}
	if b.wanted--; b.wanted == 0 {
		delete(e.bodies, ref)
		if b.parcel.left--; b.parcel.left == 0 {
			e.drop(b.parcel)
			e.trim()
		}
	}
	return b.body, true
}

// drop gives up what is left of a parcel.
func (e *enclosed) drop(p *parcel) {
	for _, ref := range p.refs {
		if b := e.bodies[ref]; b != nil && b.parcel == p {
			delete(e.bodies, ref)
		}
	}
	e.bytes -= p.bytes
	*p = parcel{}
	if len(e.parcels) > 0 && e.parcels[0] == p {
		e.parcels = e.parcels[1:]
	}
}

// trim forgets the parcels in front of which nothing is left.
func (e *enclosed) trim() {
	for len(e.parcels) > 0 && e.parcels[0].left == 0 {
		e.parcels[0] = nil
		e.parcels = e.parcels[1:]
	}
	if len(e.parcels) == 0 {
		e.parcels = nil
	}
}

func (e *enclosed) clear() { *e = enclosed{} }
