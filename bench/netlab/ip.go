package netlab

import (
	"encoding/binary"
	"net/netip"
)

// Of IP and UDP headers: RFC 791 §3.1, RFC 8200 §3, RFC 768.
const (
	ip4Header   = 20
	ip4Flags    = 6
	ip4Fragment = 0x3fff // more fragments, and the offset
	ip4Protocol = 9
	ip4Checksum = 10
	ip4Addrs    = 12

	ip6Header = 40
	ip6Next   = 6
	ip6Addrs  = 8

	udpHeader   = 8
	udpChecksum = 6
	protocolUDP = 17
)

// A datagram is a UDP datagram in an IP packet. Its fields are parts of the packet.
type datagram struct {
	src, dst         []byte // addresses
	srcPort, dstPort []byte
	headerSum        []byte // of the IPv4 header; nil in IPv6
	sum              []byte // of UDP
}

// parseDatagram finds the parts of a packet that is a whole UDP datagram. IPv6
// extension headers are not looked behind.
func parseDatagram(p []byte) (d datagram, ok bool) {
	var udp []byte
	switch {
	case len(p) >= ip4Header+udpHeader && p[0]>>4 == 4:
		header := int(p[0]&15) * 4
		if header < ip4Header || len(p) < header+udpHeader || p[ip4Protocol] != protocolUDP || binary.BigEndian.Uint16(p[ip4Flags:])&ip4Fragment != 0 {
			return d, false
		}
		d.src, d.dst = p[ip4Addrs:ip4Addrs+4], p[ip4Addrs+4:ip4Addrs+8]
		d.headerSum = p[ip4Checksum : ip4Checksum+2]
		udp = p[header:]
	case len(p) >= ip6Header+udpHeader && p[0]>>4 == 6:
		if p[ip6Next] != protocolUDP {
			return d, false
		}
		d.src, d.dst = p[ip6Addrs:ip6Addrs+16], p[ip6Addrs+16:ip6Addrs+32]
		udp = p[ip6Header:]
	default:
		return d, false
	}
	d.srcPort, d.dstPort, d.sum = udp[0:2], udp[2:4], udp[udpChecksum:udpHeader]
	return d, true
}

// source and destination are what the datagram has.
func (d *datagram) source() netip.AddrPort      { return addrPort(d.src, d.srcPort) }
func (d *datagram) destination() netip.AddrPort { return addrPort(d.dst, d.dstPort) }

func addrPort(addr, port []byte) netip.AddrPort {
	a, _ := netip.AddrFromSlice(addr)
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port))
}

// setSource and setDestination change it, and what sums it up.
func (d *datagram) setSource(to netip.AddrPort)      { d.set(d.src, d.srcPort, to) }
func (d *datagram) setDestination(to netip.AddrPort) { d.set(d.dst, d.dstPort, to) }

func (d *datagram) set(addr, port []byte, to netip.AddrPort) {
	all := to.Addr().As16()
	newAddr := all[16-len(addr):] // As16 has IPv4 in its last bytes
	newPort := binary.BigEndian.AppendUint16(make([]byte, 0, 2), to.Port())
	if d.headerSum != nil {
		resum(d.headerSum, addr, newAddr)
	}
	if d.headerSum == nil || d.sum[0]|d.sum[1] != 0 { // over IPv4, 0 says that there is none
		resum(d.sum, addr, newAddr)
		resum(d.sum, port, newPort)
		if d.sum[0]|d.sum[1] == 0 {
			d.sum[0], d.sum[1] = 0xff, 0xff
		}
	}
	copy(addr, newAddr)
	copy(port, newPort)
}

// resum changes a checksum of something in which was has become now (RFC 1624 §3).
func resum(sum, was, now []byte) {
	total := uint32(^binary.BigEndian.Uint16(sum))
	for i := 0; i < len(was); i += 2 {
		total += uint32(^binary.BigEndian.Uint16(was[i:])) + uint32(binary.BigEndian.Uint16(now[i:]))
	}
	binary.BigEndian.PutUint16(sum, ^fold(total))
}

// isGroup says whether a packet is for a group or for nobody that can be told: the
// kernel's own talk (neighbour and multicast listener discovery), which is no traffic
// of a path.
func isGroup(p []byte) bool {
	switch {
	case len(p) >= ip4Header && p[0]>>4 == 4:
		return p[ip4Addrs+4] >= 224 // 224/4, and broadcast
	case len(p) >= ip6Header && p[0]>>4 == 6:
		return p[ip6Addrs+16] == 0xff
	}
	return true
}
