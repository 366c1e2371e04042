package udp

import (
	"bytes"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A scriptReader gives out packets of a script. The memory of each is overwritten when
// the next is asked for, as that of a receiver is.
type scriptReader struct {
	packets []scripted
	ctrl    controlParser
	payload []byte
	control []byte
}

// A scripted packet is what the kernel gives: with the control message of UDP_GRO.
type scripted struct {
	addr             *net.UDPAddr
	payload, control []byte
}

func (r *scriptReader) next() (packet, bool) {
	for _, b := range [][]byte{r.payload, r.control, r.ctrl.kept[:]} {
		for i := range b {
			b[i] = 0xdb
		}
	}
	if len(r.packets) == 0 {
		return packet{}, false
	}
	p := r.packets[0]
	r.packets = r.packets[1:]
	r.payload, r.control = bytes.Clone(p.payload), bytes.Clone(p.control)
	control, segment := r.ctrl.parse(r.control)
	return packet{addr: p.addr, payload: r.payload, segment: segment, control: control}, true
}

func (*scriptReader) wait() error                 { return os.ErrDeadlineExceeded }
func (*scriptReader) setDeadline(time.Time) error { return nil }
func (*scriptReader) interrupt()                  {}
func (*scriptReader) wake()                       {}
func (*scriptReader) free()                       {}

// An arrival is a datagram as a reader should get it.
type arrival struct {
	payload, control []byte
	from             *net.UDPAddr
}

// bytesOf takes bytes off a script.
type bytesOf struct{ data []byte }

func (s *bytesOf) byte() byte {
	if b := s.take(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (s *bytesOf) take(n int) []byte {
	n = min(n, len(s.data))
	b := s.data[:n:n]
	s.data = s.data[n:]
	return b
}

// A datagramPath is some shards of which the first receives by a script, and what has
// to come out of each.
type datagramPath struct {
	t     *testing.T
	conns []*Conn
	in    []*Inspection
	held  [][]Datagram // by the inspector of each shard
	want  [][]arrival  // of each shard
	room  int          // of a message, for the payload
	oob   int          // and for control messages

	truncated, handed, drops, kept []uint64 // of each shard
}

// keeps is the rule of the inspectors.
func keeps(d []byte) bool { return len(d) > 2 && d[2]&7 == 7 }

// newDatagramPath reads a script.
//
//	8 for the reads │ shards and generation, room, oob │ packet: flags, length, segment, payload │ …
func newDatagramPath(t *testing.T, s *bytesOf) *datagramPath {
	setup := s.byte()
	n, generation := 1+int(setup&63)%3, noGeneration
	if setup&64 != 0 {
		generation = int(setup >> 7) // of the IDs that the shards made, in their second byte
	}
	p := &datagramPath{t: t, room: 1 + int(s.byte()), oob: []int{0, 24, 64, oobSize}[s.byte()&3]}
	reader := &scriptReader{}
	for i := range n {
		c := &Conn{}
		p.conns = append(p.conns, c)
		p.held, p.want = append(p.held, nil), append(p.want, nil)
		var r *scriptReader
		if r = reader; i > 0 {
			r = &scriptReader{}
		}
		c.main = newLane(r, c)
		p.in = append(p.in, c.Inspect(func(d Datagram) bool {
			if !keeps(d.Payload) {
				return true
			}
			p.held[i] = append(p.held[i], Datagram{bytes.Clone(d.Payload), bytes.Clone(d.Control), d.From})
			return false
		}))
	}
	route := routing{n, generation}
	if n > 1 {
		for i, c := range p.conns {
			c.main.split.shard = &shard{self: i, all: p.conns, route: route}
		}
	}
	p.truncated, p.handed, p.drops, p.kept = make([]uint64, n), make([]uint64, n), make([]uint64, n), make([]uint64, n)
	from := []*net.UDPAddr{{Port: 1}, {Port: 2}, {Port: 3}, nil}
	for len(s.data) > 0 {
		flags, length, segment := s.byte(), int(s.byte()), int(s.byte())
		q := scripted{addr: from[flags&3], payload: s.take(length)}
		var rest []byte
		if flags&4 != 0 {
			rest = cmsg(unix.IPPROTO_IP, unix.IP_TOS, []byte{flags})
		}
		q.control = bytes.Clone(rest)
		if flags&8 != 0 {
			q.control = append(q.control, groCmsg(segment)...)
		} else {
			segment = 0
		}
		if flags&16 != 0 {
			more := cmsg(unix.IPPROTO_IP, unix.IP_PKTINFO, make([]byte, 12))
			q.control, rest = append(q.control, more...), append(rest, more...)
		}
		reader.packets = append(reader.packets, q)
		p.expect(q, rest, segment, route)
	}
	return p
}

// expect says what has to become of a packet.
func (p *datagramPath) expect(q scripted, rest []byte, segment int, route routing) {
	if q.addr == nil {
		p.truncated[0]++
		return
	}
	for left := q.payload; ; {
		d := left
		if segment > 0 && segment < len(d) {
			d = d[:segment]
		}
		left = left[len(d):]
		to := 0
		if i, ok := route.shardOf(d); ok && len(p.conns) > 1 {
			to = i
		}
		if to != 0 {
			p.handed[0]++
		}
		switch {
		case to != 0 && len(p.want[to]) >= maxInbox: // others are read when all has come
			p.drops[to]++
		default:
			p.want[to] = append(p.want[to], arrival{d, rest, q.addr})
		}
		if len(left) == 0 {
			return
		}
	}
}

// expected is the next that has to come out of a shard: what an inspector keeps does
// not, unless it was delivered by it.
func (p *datagramPath) expected(shard int, delivered bool) (arrival, bool) {
	for len(p.want[shard]) > 0 {
		w := p.want[shard][0]
		p.want[shard] = p.want[shard][1:]
		if delivered || !keeps(w.payload) {
			return w, true
		}
		p.kept[shard]++
	}
	return arrival{}, false
}

// fits tells whether there is room in a message.
func (p *datagramPath) fits(w arrival) bool {
	return len(w.payload) <= p.room && (len(w.control) <= p.oob || p.oob == 0)
}

// same wants what came to be what had to, but for control messages without room.
func (p *datagramPath) same(got, control []byte, from net.Addr, w arrival) {
	p.t.Helper()
	if !bytes.Equal(got, w.payload) || !bytes.Equal(control, w.control[:min(len(w.control), p.oob)]) || from != net.Addr(w.from) {
		p.t.Fatalf("%x (%x) came from %v, want %x (%x) from %v", got, control, from, w.payload, w.control, w.from)
	}
}

// read reads a shard until nothing more comes, by the calls that the script has.
func (p *datagramPath) read(shard int, s *bytesOf, delivered bool) {
	for more := true; more; {
		p.conns[shard].yield.allow() // what takes time would be news to a fuzzer, again and again
		if how := s.byte(); how&1 == 0 {
			more = p.readBatch(shard, 1+int(how>>1)&7, delivered)
		} else {
			more = p.readOne(shard, delivered)
		}
	}
	if w, ok := p.expected(shard, delivered); ok {
		p.t.Fatalf("shard %d: %x did not come", shard, w.payload)
	}
}

// readBatch drops what does not fit.
func (p *datagramPath) readBatch(shard, size int, delivered bool) bool {
	ms := messages(size)
	for i := range ms {
		ms[i].Buffers[0], ms[i].OOB = make([]byte, p.room), make([]byte, p.oob)
	}
	n, err := p.conns[shard].main.readBatch(ms)
	for i := 0; ; {
		if i == n && n == len(ms) {
			return true // it has looked no further
		}
		w, ok := p.expected(shard, delivered)
		switch {
		case ok && !p.fits(w):
			p.truncated[shard]++
		case ok && i < n:
			p.same(ms[i].Buffers[0][:ms[i].N], ms[i].OOB[:ms[i].NN], ms[i].Addr, w)
			i++
		case ok:
			p.t.Fatalf("shard %d: %x is not in a batch of %d", shard, w.payload, n)
		case i < n:
			p.t.Fatalf("shard %d: %x came, and nothing was due", shard, ms[i].Buffers[0][:ms[i].N])
		default:
			return !errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
}

// readOne cuts what does not fit.
func (p *datagramPath) readOne(shard int, delivered bool) bool {
	b, oob := make([]byte, p.room), make([]byte, p.oob)
	n, oobn, flags, from, err := p.conns[shard].main.read(b, oob)
	w, ok := p.expected(shard, delivered)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if ok {
			p.t.Fatalf("shard %d: %x did not come", shard, w.payload)
		}
		return false
	}
	if cut := len(w.payload) > p.room; cut {
		p.truncated[shard]++
		if flags&msgTrunc == 0 {
			p.t.Fatalf("shard %d: %d of %d bytes, flags %#x", shard, n, len(w.payload), flags)
		}
		w.payload = w.payload[:p.room]
	}
	p.same(b[:n], oob[:oobn], from, w)
	return true
}

// FuzzDatagrams sends packets and trains through all that is between a socket and a
// reader: control messages, splitting, steering to other shards, inspectors that keep
// some back and deliver them later, and both ways to read. Each datagram comes to whom
// it is for, in order and unchanged, or is counted.
func FuzzDatagrams(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 0, 255, 3, 0, 5, 0, 1, 2, 3, 4, 5, 8, 6, 2, 1, 2, 3, 4, 5, 6})
	f.Add([]byte{1, 1, 1, 0, 14, 0, 0, 0, 1, 255, 3, 12, 6, 2, 0x40, 0, 0x40, 1, 0x40, 2, 3, 4, 0, 1, 2, 3, 4})
	f.Add([]byte{0, 1, 0, 1, 0, 1, 0, 1, 2, 2, 1, 28, 9, 3, 0x40, 1, 7, 0x40, 2, 7, 0x40, 0, 15, 8, 0, 0})
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 65, 255, 3, 12, 8, 4, 0x40, 1, 0, 9, 0x40, 1, 1, 9})
	// More for a shard than its inbox holds.
	flood := []byte{14, 14, 14, 14, 14, 14, 14, 14, 1, 255, 3}
	for range 6 {
		flood = append(append(flood, 8, 254, 2), bytes.Repeat([]byte{0x40, 1}, 127)...)
	}
	f.Add(flood)
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &bytesOf{data}
		reads := &bytesOf{bytes.Clone(s.take(8))}
		p := newDatagramPath(t, s)
		for i := range p.conns {
			p.read(i, reads, false)
		}
		// What was kept back comes now, without another look.
		for i, in := range p.in {
			for n, d := range p.held[i] {
				if taken := in.Deliver(d); taken != (n < maxInbox) {
					t.Fatalf("delivered %d with room for %d: %v", n, maxInbox, taken)
				} else if taken {
					p.want[i] = append(p.want[i], arrival{d.Payload, d.Control, d.From})
				}
			}
			p.read(i, reads, true)
			st := &p.conns[i].stats
			for what, n := range map[string][2]uint64{
				"truncated": {st.truncated.Load(), p.truncated[i]}, "handed over": {st.handedOver.Load(), p.handed[i]},
				"dropped by the inbox": {st.inboxDrops.Load(), p.drops[i]}, "kept back": {st.keptBack.Load(), p.kept[i]},
			} {
				if n[0] != n[1] {
					t.Errorf("shard %d: %d %s, want %d", i, n[0], what, n[1])
				}
			}
		}
	})
}
