package netlab

import "encoding/binary"

// The header that is before each packet of a TUN device: struct virtio_net_hdr of
// linux/virtio_net.h, in the byte order of the machine.
const (
	vnetHeader     = 10
	vnetType       = 1
	vnetHeaderLen  = 2
	vnetSize       = 4 // of a segment
	vnetStart      = 6 // of what the checksum is of
	vnetOffset     = 8 // of the checksum, from there
	vnetNeedsSum   = 1 // a flag: only the pseudo-header is summed up yet
	vnetUDPSegment = 5 // VIRTIO_NET_HDR_GSO_UDP_L4
)

const (
	maxPacket = 1<<16 - 1 // of IP
	maxTrain  = 64        // segments (UDP_MAX_SEGMENTS)

	ip4Length = 2
	ip4ID     = 4
	ip6Length = 4
	udpLength = 4
)

// cut calls each with the packets of what was read from a TUN device: of a train its
// datagrams, and else the packet itself. The header of either is before it. They are made
// in scratch, which has room for the largest, and are good until each returns.
func cut(read, scratch []byte, each func(headed []byte)) {
	p := read[vnetHeader:]
	size := int(binary.NativeEndian.Uint16(read[vnetSize:]))
	header := udpAt(p)
	if read[vnetType] != vnetUDPSegment || size == 0 || header == 0 {
		each(read)
		return
	}
	header += udpHeader
	for i, rest := 0, p[header:]; len(rest) > 0; i++ {
		n := min(size, len(rest))
		one := append(scratch[:0], read[:vnetHeader+header]...)
		one = append(one, rest[:n]...)
		rest = rest[n:]
		one[vnetType] = 0
		binary.NativeEndian.PutUint16(one[vnetSize:], 0)
		ip := one[vnetHeader:]
		if ip[0]>>4 == 4 {
			binary.BigEndian.PutUint16(ip[ip4ID:], binary.BigEndian.Uint16(p[ip4ID:])+uint16(i))
		}
		resize(ip, header-udpHeader)
		each(one)
	}
}

// udpAt is where the UDP header of a whole datagram is; 0 if the packet is none.
func udpAt(p []byte) int {
	if _, ok := parseDatagram(p); !ok {
		return 0
	}
	if p[0]>>4 == 6 {
		return ip6Header
	}
	return int(p[0]&15) * 4
}

// resize has the lengths and checksums of a datagram be those of the packet's size. Of
// UDP's only the pseudo-header is summed up.
func resize(p []byte, udp int) {
	binary.BigEndian.PutUint16(p[udp+udpLength:], uint16(len(p)-udp))
	var addrs []byte
	if p[0]>>4 == 4 {
		addrs = p[ip4Addrs:ip4Header]
		binary.BigEndian.PutUint16(p[ip4Length:], uint16(len(p)))
		binary.BigEndian.PutUint16(p[ip4Checksum:], 0)
		binary.BigEndian.PutUint16(p[ip4Checksum:], ^fold(sumWords(0, p[:udp])))
	} else {
		addrs = p[ip6Addrs:ip6Header]
		binary.BigEndian.PutUint16(p[ip6Length:], uint16(len(p)-ip6Header))
	}
	binary.BigEndian.PutUint16(p[udp+udpChecksum:], fold(sumWords(uint32(protocolUDP+len(p)-udp), addrs)))
}

func sumWords(total uint32, b []byte) uint32 {
	for i := 0; i+1 < len(b); i += 2 {
		total += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	return total
}

// fold is a sum in ones' complement (RFC 1071).
func fold(total uint32) uint16 {
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return uint16(total)
}

// A joiner makes trains of datagrams that follow each other, as GRO does: of the same
// flow, with the same marks, and of the same size but for the last, which may be shorter.
type joiner struct {
	buf  []byte // the header, and the packet
	n    int    // datagrams
	udp  int    // where the UDP header is in the packet; 0 if it cannot grow
	size int    // of a segment
	full bool   // the last was shorter
}

// add takes a packet with its header. It is false if the packet does not go with those
// that it has: then they are to be written first.
func (j *joiner) add(headed []byte) bool {
	p := headed[vnetHeader:]
	udp := 0
	if headed[0]&vnetNeedsSum != 0 {
		udp = udpAt(p)
	}
	if j.n == 0 {
		j.buf = append(j.buf[:0], headed...)
		j.n, j.udp, j.size, j.full = 1, udp, len(p)-udp-udpHeader, false
		return true
	}
	payload := len(p) - udp - udpHeader
	if udp == 0 || udp != j.udp || j.full || j.n >= maxTrain || payload <= 0 || payload > j.size ||
		len(j.buf)-vnetHeader+payload > maxPacket || !sameFlow(j.buf[vnetHeader:], p, udp) {
		return false
	}
	j.buf = append(j.buf, p[udp+udpHeader:]...)
	j.n++
	j.full = payload < j.size
	return true
}

// sameFlow compares all of two headers that is the same in datagrams of a train.
func sameFlow(a, b []byte, udp int) bool {
	same := func(from, to int) bool { return string(a[from:to]) == string(b[from:to]) }
	if !same(udp, udp+udpLength) {
		return false
	}
	if a[0]>>4 == 4 {
		return same(0, ip4Length) && same(ip4Flags, ip4Checksum) && same(ip4Addrs, udp)
	}
	return same(0, ip6Length) && same(ip6Next, udp)
}

// train is what is to be written, with its header.
func (j *joiner) train() []byte {
	if j.n > 1 {
		j.buf[vnetType] = vnetUDPSegment
		binary.NativeEndian.PutUint16(j.buf[vnetHeaderLen:], uint16(j.udp+udpHeader))
		binary.NativeEndian.PutUint16(j.buf[vnetSize:], uint16(j.size))
		resize(j.buf[vnetHeader:], j.udp)
	}
	return j.buf
}
