package udp

import (
	"net"
	"sync"
	"sync/atomic"
)

// A shard is what a splitter knows of its Conn's place among others.
type shard struct {
	self  int
	all   []*Conn
	route routing
}

// handOver gives a datagram to the shard it is for, if that is another one.
func (s *shard) handOver(p packet, datagram []byte) bool {
	to, ok := s.route.shardOf(datagram)
	if !ok || to == s.self {
		return false
	}
	s.all[s.self].stats.handedOver.Add(1)
	taken, first := s.all[to].inbox.put(p, datagram)
	if !taken {
		s.all[to].stats.inboxDrops.Add(1)
	}
	if first {
		s.all[to].main.r.wake()
	}
	return true
}

// maxInbox is how many datagrams wait in an inbox at most.
const maxInbox = 512

// An inbox holds datagrams that did not come from the socket: other shards have
// received them for this one, or Inspection.Deliver was given them.
type inbox struct {
	waiting atomic.Int32 // len(list) - head, to look at without the mutex

	mu   sync.Mutex
	list []handed // in order of arrival
	head int      // index of the oldest
	free []handed // whose memory is used again

	given handed // by next; of the reader
}

// A handed datagram is a copy: the original's memory belongs to another reader.
type handed struct {
	addr    *net.UDPAddr
	payload []byte
	control []byte
	passed  *Inspection
}

// put adds a datagram if there is room, and tells whether it is the first, for
// which the reader may have to be woken.
func (b *inbox) put(p packet, datagram []byte) (taken, first bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.list)-b.head >= maxInbox {
		return false, false
	}
	if b.head >= maxInbox {
		b.list, b.head = append(b.list[:0], b.list[b.head:]...), 0
	}
	var h handed
	if n := len(b.free); n > 0 {
		h, b.free = b.free[n-1], b.free[:n-1]
	}
	h.addr, h.passed = p.addr, p.passed
	h.payload = append(h.payload[:0], datagram...)
	h.control = append(h.control[:0], p.control...)
	b.list = append(b.list, h)
	b.waiting.Store(int32(len(b.list) - b.head))
	return true, len(b.list)-b.head == 1
}

// has tells whether something waits.
func (b *inbox) has() bool { return b.waiting.Load() > 0 }

// next takes the oldest, which is valid until the following call.
func (b *inbox) next() (packet, bool) {
	if !b.has() {
		return packet{}, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.given.payload != nil {
		b.free = append(b.free, b.given)
	}
	h := b.list[b.head]
	b.given = h
	if b.head++; b.head == len(b.list) {
		b.list, b.head = b.list[:0], 0
	}
	b.waiting.Store(int32(len(b.list) - b.head))
	return packet{addr: h.addr, payload: h.payload, control: h.control, passed: h.passed}, true
}
