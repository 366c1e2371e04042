package takeover

import (
	"time"

	"github.com/tailfin-quic/tailfin/udp"
)

// epoch is what handshakes is counted from, on the monotonic clock.
var epoch = time.Now()

// route returns the link to the instance that a datagram is for, or nil if that is
// this one, or has gone.
func (l *Listener) route(payload []byte) *link {
	to, generation := udp.AddresseeOf(payload)
	if to != udp.Issuer {
		switch {
		case !l.serving.Load():
			return l.older.Load()
		case l.yielded.Load():
			return l.newer.Load()
		}
		return nil
	}
	// Generations wrap around; there are never 128 of them.
	switch age := int8(generation - l.own); {
	case age > 0:
		return l.newer.Load()
	case age == 0 && l.closing.Load():
		return l.newer.Load() // it sends a stateless reset
	case age == 0:
		const longHeader = 0x80 // RFC 9000 §17.2
		if payload[0]&longHeader != 0 {
			l.handshakes.Store(int64(time.Since(epoch)))
		}
		return nil
	default:
		if older := l.older.Load(); older != nil && (age < -1 || !older.drained.Load()) {
			return older
		}
		return nil
	}
}

// look is the Inspector of all shards while there is a link.
func (l *Listener) look(d udp.Datagram) bool {
	to := l.route(d.Payload)
	if to == nil {
		return true
	}
	to.forward(d)
	return false
}

// received is a datagram that came over a link.
func (l *Listener) received(from *link, message []byte, addrs *addrBook) {
	d, err := parseDatagram(message, addrs)
	if err != nil {
		l.metrics.dropped.WithLabelValues(droppedInvalid).Inc()
		return
	}
	// Two instances may for a moment each take the other for the one that a
	// datagram is for; it must not go to and fro.
	if to := l.route(d.Payload); to != nil && to != from {
		to.forward(d)
		return
	}
	inspections := l.inspections.Load()
	if inspections == nil {
		return // closed meanwhile
	}
	shard, _ := l.shards.ShardOf(d.Payload)
	if !(*inspections)[shard].Deliver(d) {
		l.metrics.dropped.WithLabelValues(droppedDeliver).Inc()
		return
	}
	l.metrics.delivered.Inc()
}

// inspect has the shards look at datagrams while there is a link, and only then.
// The caller holds mu.
func (l *Listener) inspect() {
	linked := l.older.Load() != nil || l.newer.Load() != nil
	switch old := l.inspections.Load(); {
	case linked && old == nil:
		var list []*udp.Inspection
		for _, c := range l.shards.Conns() {
			list = append(list, c.Inspect(l.look))
		}
		l.inspections.Store(&list)
	case !linked && old != nil:
		for _, i := range *old {
			i.Remove()
		}
		l.inspections.Store(nil)
	}
}
