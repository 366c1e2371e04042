package udp

import (
	"net"

	"golang.org/x/net/ipv4"
)

// A packet is what one receive brought: a datagram, or a train of datagrams of
// one peer that the kernel has joined (UDP_GRO).
type packet struct {
	addr    *net.UDPAddr
	payload []byte // of all datagrams, one after the other
	segment int    // length of each datagram but the last, 0 if it is no train
	control []byte // control messages, without that of UDP_GRO

	passed *Inspection // that has kept it back once, and is not to look again
}

// A source brings packets. One goroutine uses it at a time.
type source interface {
	// next returns the next packet that is there without waiting. It is valid
	// until the following call.
	next() (packet, bool)
}

// A splitter takes packets apart into the datagrams they hold. What a batch
// has no room for it keeps for the next, in order.
type splitter struct {
	src   source
	stats *counters
	shard *shard // nil of a Conn that is none
	inspection

	cur  packet // being taken apart
	rest []byte // what is left of its payload
	open bool   // cur holds a datagram yet; an empty one has no rest
}

// fill sets as many messages as there are datagrams, and returns their number.
func (s *splitter) fill(ms []ipv4.Message) int {
	var n int
	var bytes uint64
	for n < len(ms) {
		if !s.open && !s.advance() {
			break
		}
		segment := s.cut()
		if s.shard != nil && s.shard.handOver(s.cur, segment) || s.keepsBack(&s.cur, segment) {
			continue
		}
		if s.deliver(&ms[n], segment) {
			bytes += uint64(len(segment))
			n++
		}
	}
	if n > 0 {
		s.stats.batches.Add(1)
		s.stats.datagrams.Add(uint64(n))
		s.stats.bytes.Add(bytes)
	}
	return n
}

// advance takes the next packet from the source.
func (s *splitter) advance() bool {
	p, ok := s.src.next()
	for ok && p.addr == nil {
		// Not an internet address: no reader could answer, and quic-go (v0.65.0)
		// would use the nil.
		s.stats.truncated.Add(1)
		p, ok = s.src.next()
	}
	if !ok {
		return false
	}
	s.cur, s.rest, s.open = p, p.payload, true
	n := 1
	if p.segment > 0 && p.segment < len(p.payload) {
		n = (len(p.payload) + p.segment - 1) / p.segment
	}
	s.stats.received(n)
	return true
}

// cut takes the next datagram off the current packet.
func (s *splitter) cut() []byte {
	d := s.rest
	if s.cur.segment > 0 && s.cur.segment < len(d) {
		d = d[:s.cur.segment]
	}
	s.rest = s.rest[len(d):]
	s.open = len(s.rest) > 0
	return d
}

// deliver copies one datagram into a message. One that does not fit, or whose
// control messages do not, is dropped and counted: a reader that does not look
// at MSG_TRUNC, as quic-go (v0.65.0) does not, would take it for whole.
func (s *splitter) deliver(m *ipv4.Message, datagram []byte) bool {
	if len(datagram) > len(m.Buffers[0]) || len(s.cur.control) > len(m.OOB) && len(m.OOB) > 0 {
		s.stats.truncated.Add(1)
		return false
	}
	m.N = copy(m.Buffers[0], datagram)
	m.NN = copy(m.OOB, s.cur.control)
	m.Flags = 0
	m.Addr = s.cur.addr
	return true
}

// read delivers one datagram as recvmsg(2) does: what does not fit is cut off,
// and flags say so.
func (s *splitter) read(p, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, ok bool) {
	var datagram []byte
	for {
		if !s.open && !s.advance() {
			return 0, 0, 0, nil, false
		}
		datagram = s.cut()
		if s.shard != nil && s.shard.handOver(s.cur, datagram) || s.keepsBack(&s.cur, datagram) {
			continue
		}
		break
	}
	n, oobn = copy(p, datagram), copy(oob, s.cur.control)
	if n < len(datagram) {
		flags |= msgTrunc
		s.stats.truncated.Add(1)
	}
	if oobn < len(s.cur.control) && len(oob) > 0 {
		flags |= msgCtrunc
	}
	s.stats.datagrams.Add(1)
	s.stats.bytes.Add(uint64(len(datagram)))
	return n, oobn, flags, s.cur.addr, true
}
