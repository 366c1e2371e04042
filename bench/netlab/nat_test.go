package netlab

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

// newDatagram is a UDP datagram in an IP packet, with its checksums.
func newDatagram(from, to netip.AddrPort, payload string) []byte {
	udp := binary.BigEndian.AppendUint16(nil, from.Port())
	udp = binary.BigEndian.AppendUint16(udp, to.Port())
	udp = binary.BigEndian.AppendUint16(udp, uint16(udpHeader+len(payload)))
	udp = append(append(udp, 0, 0), payload...)
	var ip []byte
	if from.Addr().Is4() {
		ip = append([]byte{0x45, 0, 0, byte(ip4Header + len(udp)), 0, 0, 0x40, 0, 64, protocolUDP, 0, 0}, from.Addr().AsSlice()...)
		ip = append(ip, to.Addr().AsSlice()...)
		binary.BigEndian.PutUint16(ip[ip4Checksum:], ^sum(ip))
	} else {
		ip = append([]byte{0x60, 0, 0, 0, 0, byte(len(udp)), protocolUDP, 64}, from.Addr().AsSlice()...)
		ip = append(ip, to.Addr().AsSlice()...)
	}
	p := append(ip, udp...)
	binary.BigEndian.PutUint16(p[len(ip)+udpChecksum:], ^sum(pseudo(p)))
	return p
}

// pseudo is what a UDP checksum is of: the pseudo-header and the datagram.
func pseudo(p []byte) []byte {
	addrs, udp := p[ip4Addrs:ip4Header], p[ip4Header:]
	if p[0]>>4 == 6 {
		addrs, udp = p[ip6Addrs:ip6Header], p[ip6Header:]
	}
	b := append(bytes.Clone(addrs), 0, protocolUDP)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(udp))), udp...)
}

// sum is the sum of RFC 1071.
func sum(b []byte) uint16 {
	var total uint32
	for i, x := range b {
		if i%2 == 0 {
			total += uint32(x) << 8
		} else {
			total += uint32(x)
		}
	}
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return uint16(total)
}

// checkSums says whether a packet's checksums are right.
func checkSums(t *testing.T, p []byte) {
	t.Helper()
	const right = 0xffff
	if p[0]>>4 == 4 && sum(p[:ip4Header]) != right {
		t.Errorf("IPv4 checksum of % x", p)
	}
	if sum(pseudo(p)) != right {
		t.Errorf("UDP checksum of % x", p)
	}
}

func TestNAT(t *testing.T) {
	for _, hosts := range [][2]netip.Addr{{sender4, receiver4}, {sender6, receiver6}} {
		n := newNAT()
		from, to := netip.AddrPortFrom(hosts[0], 4433), netip.AddrPortFrom(hosts[1], 443)
		// pass sends a datagram, and returns the source that it has outside.
		pass := func(from netip.AddrPort) netip.AddrPort {
			t.Helper()
			p := newDatagram(from, to, "hello")
			checkSums(t, p)
			if !n.forward(p) {
				t.Fatalf("nothing gets through from %v", from)
			}
			checkSums(t, p)
			d, ok := parseDatagram(p)
			if !ok || d.destination() != to || !bytes.HasSuffix(p, []byte("hello")) {
				t.Fatalf("it became % x", p)
			}
			return d.source()
		}
		answer := func(outside netip.AddrPort) (netip.AddrPort, bool) {
			p := newDatagram(to, outside, "hi")
			ok := n.backward(p)
			checkSums(t, p)
			d, _ := parseDatagram(p)
			return d.destination(), ok
		}
		first, other := pass(from), pass(netip.AddrPortFrom(hosts[0], 4434))
		if first == from || first == other || pass(from) != first {
			t.Errorf("sources %v and %v", first, other)
		}
		if at, ok := answer(first); !ok || at != from {
			t.Errorf("the answer went to %v, %v", at, ok)
		}
		n.rebind(RebindPort)
		if _, ok := answer(first); ok {
			t.Error("the old port is still mapped")
		}
		second := pass(from)
		if second.Addr() != first.Addr() || second.Port() == first.Port() {
			t.Errorf("%v became %v", first, second)
		}
		n.rebind(RebindAddress)
		third := pass(from)
		if third.Addr() == second.Addr() {
			t.Errorf("%v became %v", second, third)
		}
		if at, ok := answer(third); !ok || at != from {
			t.Errorf("the answer went to %v, %v", at, ok)
		}
	}
}

func TestNATHasSoManyMappings(t *testing.T) {
	n := newNAT()
	to := netip.AddrPortFrom(receiver4, 443)
	for i := range maxMappings {
		if !n.forward(newDatagram(netip.AddrPortFrom(sender4, uint16(i)), to, "")) {
			t.Fatalf("mapping %d", i)
		}
	}
	if n.forward(newDatagram(netip.AddrPortFrom(sender4, maxMappings), to, "")) {
		t.Error("one more")
	}
	n = newNAT()
	for range 40_000 { // all addresses, and around
		n.rebind(RebindAddress)
		if !natHomes.Contains(n.home4) || !network6.Contains(n.home6) {
			t.Fatalf("%v, %v", n.home4, n.home6)
		}
	}
}

// TestNoChecksum has a datagram without one keep none (RFC 768).
func TestNoChecksum(t *testing.T) {
	p := newDatagram(netip.AddrPortFrom(sender4, 1), netip.AddrPortFrom(receiver4, 2), "")
	d, _ := parseDatagram(p)
	clear(d.sum)
	if !newNAT().forward(p) || d.sum[0]|d.sum[1] != 0 {
		t.Errorf("% x", p)
	}
}

func FuzzDatagram(f *testing.F) {
	f.Add(newDatagram(netip.AddrPortFrom(sender4, 1), netip.AddrPortFrom(receiver4, 2), "x"))
	f.Add(newDatagram(netip.AddrPortFrom(sender6, 1), netip.AddrPortFrom(receiver6, 2), "x"))
	f.Add([]byte{0x4f})
	f.Fuzz(func(t *testing.T, p []byte) {
		isGroup(p)
		d, ok := parseDatagram(p)
		if !ok {
			return
		}
		to := netip.AddrPortFrom(receiver4, 7)
		if len(d.src) == 16 {
			to = netip.AddrPortFrom(receiver6, 7)
		}
		size := len(p)
		d.setSource(to)
		if d.source() != to || len(p) != size {
			t.Errorf("source %v", d.source())
		}
	})
}
