package netlab

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// maxUnderWay bounds how many packets of one direction a wire holds. It is what
// 10 Gbit/s of small trains' datagrams come to in 30 ms, and 50 MB of memory.
const maxUnderWay = 1 << 15

// A shaper decides the fate of the packets of one direction, and holds them until they
// are due. Times are since some start, and never go back. All but its counters and change
// is owned by one goroutine.
type shaper struct {
	change atomic.Pointer[Direction] // what it is to be like from the next packet on; nil for as it is

	d     Direction
	queue time.Duration // how long the queue takes to send, if it is full
	rng   *rand.Rand

	free time.Duration // when the line has sent all that has been taken
	idle time.Duration // since when there may be packets that are not taken yet; in the future for none
	last time.Duration // when the latest packet that is not held back is due
	seq  uint64
	wait underWay
	pool []*packet
	size int // of buffers

	down atomic.Bool // nothing is taken

	passed, duplicated, heldBack, jittered, largest atomic.Uint64
	interrupted, lost, overflowed, tooBig, unmapped atomic.Uint64
}

// A packet is under way.
type packet struct {
	due  time.Duration
	seq  uint64
	data []byte // with its header, in a buffer of the shaper's size
	twin bool   // arrives twice
	held bool
	late bool // by its own jitter
}

// newShaper shapes packets of up to size bytes. The stream tells chances of the same
// seed apart.
func newShaper(d Direction, seed, stream uint64, size int) *shaper {
	s := &shaper{size: size, idle: math.MaxInt64, rng: rand.New(rand.NewPCG(seed, stream))} //nolint:gosec // chances that can be had again
	s.set(d)
	return s
}

// set has the shaper be like d. What is under way keeps its fate.
func (s *shaper) set(d Direction) {
	s.d, s.queue = d, 0
	if s.d.HoldBack == 0 {
		s.d.HoldBack = DefaultHoldBack
	}
	if d.Rate > 0 {
		s.queue = s.sending(d.queue())
	}
}

// sending is how long the line takes to send so many bytes.
func (s *shaper) sending(bytes int) time.Duration {
	return time.Duration(float64(bytes) * 8 / float64(s.d.Rate) * float64(time.Second))
}

// spare is a packet to fill.
func (s *shaper) spare() *packet {
	if n := len(s.pool); n > 0 {
		p := s.pool[n-1]
		s.pool = s.pool[:n-1]
		return p
	}
	return &packet{data: make([]byte, 0, vnetHeader+s.size)}
}

// recycle takes a packet back that spare has given out.
func (s *shaper) recycle(p *packet) { s.pool = append(s.pool, p) }

// take takes a packet that has come in now.
func (s *shaper) take(now time.Duration, p *packet) {
	if s.change.Load() != nil {
		s.set(*s.change.Swap(nil))
	}
	// All chances are drawn for each packet, so that the fate of one changes nothing
	// in that of the next.
	lost, held, twin := s.draw(s.d.Loss), s.draw(s.d.Reorder), s.draw(s.d.Duplicate)
	jitter := time.Duration(s.rng.Float64() * float64(s.d.Jitter))
	bytes := len(p.data) - vnetHeader
	switch {
	case s.down.Load():
		s.interrupted.Add(1)
	case s.d.BlackHole > 0 && bytes > s.d.BlackHole:
		s.tooBig.Add(1)
	case lost:
		s.lost.Add(1)
	case len(s.wait) >= maxUnderWay, s.full(now, bytes):
		s.overflowed.Add(1)
	default:
		leaves := now
		if s.d.Rate > 0 {
			// What waited for the wire, and not for the line, was sent meanwhile.
			s.free = max(s.free, min(s.idle, now)) + s.sending(bytes)
			leaves = max(s.free, now)
		}
		p.due = max(s.last, leaves+s.d.Delay+jitter)
		p.late = p.due > max(s.last, leaves+s.d.Delay)
		s.last = p.due
		if held {
			p.due += s.d.HoldBack
		}
		p.twin, p.held = twin, held
		s.seq++
		p.seq = s.seq
		heap.Push(&s.wait, p)
		return
	}
	s.recycle(p)
}

// full says whether the queue has no room. A packet that finds the line free needs none.
func (s *shaper) full(now time.Duration, bytes int) bool {
	return s.d.Rate > 0 && s.free > now && s.free-now+s.sending(bytes) > s.queue
}

func (s *shaper) draw(part float64) bool { return s.rng.Float64() < part }

// next is how long it is until a packet is due, and not above 0 if one is now. It is
// false if there is none.
func (s *shaper) next(now time.Duration) (time.Duration, bool) {
	if len(s.wait) == 0 {
		return 0, false
	}
	return s.wait[0].due - now, true
}

// give takes the next packet out, which is to be sent, and recycled.
func (s *shaper) give() *packet { return heap.Pop(&s.wait).(*packet) }

// sent counts a packet that has been handed over.
func (s *shaper) sent(p *packet) {
	s.passed.Add(1)
	if p.held {
		s.heldBack.Add(1)
	}
	if p.late {
		s.jittered.Add(1)
	}
	if p.twin {
		s.duplicated.Add(1)
	}
	if size := uint64(len(p.data) - vnetHeader); size > s.largest.Load() {
		s.largest.Store(size)
	}
}

// counters reads the counters, from any goroutine.
func (s *shaper) counters() Counters {
	return Counters{
		Passed: s.passed.Load(), Duplicated: s.duplicated.Load(), HeldBack: s.heldBack.Load(), Jittered: s.jittered.Load(),
		Largest: s.largest.Load(), Interrupted: s.interrupted.Load(), Lost: s.lost.Load(),
		Overflowed: s.overflowed.Load(), TooBig: s.tooBig.Load(), Unmapped: s.unmapped.Load(),
	}
}

// underWay is a heap, the next packet that is due first.
type underWay []*packet

func (u underWay) Len() int { return len(u) }
func (u underWay) Less(i, j int) bool {
	if u[i].due != u[j].due {
		return u[i].due < u[j].due
	}
	return u[i].seq < u[j].seq
}
func (u underWay) Swap(i, j int) { u[i], u[j] = u[j], u[i] }
func (u *underWay) Push(x any)   { *u = append(*u, x.(*packet)) }
func (u *underWay) Pop() any {
	old := *u
	n := len(old) - 1
	p := old[n]
	old[n] = nil
	*u = old[:n]
	return p
}
