package netlab

import (
	"net/netip"
	"sync"
)

// A nat gives the sender's datagrams another source, one for each socket whoever it
// sends to, and lets anyone answer there (RFC 4787: endpoint-independent mapping and
// filtering). It has a port for each mapping it has ever made, and starts again when
// there are no more.
type nat struct {
	mu    sync.Mutex
	home4 netip.Addr
	home6 netip.Addr
	port  uint16
	out   map[netip.AddrPort]netip.AddrPort
	back  map[netip.AddrPort]netip.AddrPort
}

// The ports of a NAT, and the most mappings that it has at a time.
const (
	natFirstPort = 20000
	natLastPort  = 59999
	maxMappings  = 16384
)

func newNAT() *nat {
	return &nat{
		home4: natHome4, home6: natHome6, port: natFirstPort,
		out: make(map[netip.AddrPort]netip.AddrPort), back: make(map[netip.AddrPort]netip.AddrPort),
	}
}

// forward rewrites a packet of the sender. It is false if the packet does not get through.
func (n *nat) forward(p []byte) bool {
	d, ok := parseDatagram(p)
	if !ok {
		return false
	}
	from := d.source()
	n.mu.Lock()
	defer n.mu.Unlock()
	to, ok := n.out[from]
	if !ok {
		if len(n.out) >= maxMappings {
			return false
		}
		to = n.free(from.Addr())
		n.out[from], n.back[to] = to, from
	}
	d.setSource(to)
	return true
}

// free is an address and port that has no mapping. There are more than maxMappings.
func (n *nat) free(like netip.Addr) netip.AddrPort {
	home := n.home4
	if like.Is6() {
		home = n.home6
	}
	for {
		to := netip.AddrPortFrom(home, n.port)
		if n.port++; n.port > natLastPort {
			n.port = natFirstPort
		}
		if _, taken := n.back[to]; !taken {
			return to
		}
	}
}

// backward rewrites an answer.
func (n *nat) backward(p []byte) bool {
	d, ok := parseDatagram(p)
	if !ok {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	to, ok := n.back[d.destination()]
	if ok {
		d.setDestination(to)
	}
	return ok
}

// rebind forgets all mappings.
func (n *nat) rebind(r Rebinding) {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.out)
	clear(n.back)
	if r == RebindAddress {
		if n.home4, n.home6 = n.home4.Next(), n.home6.Next(); !natHomes.Contains(n.home4) {
			n.home4, n.home6 = natHome4, natHome6
		}
	}
}

// rewriter has f rewrite a packet that has its header before it.
func rewriter(f func([]byte) bool) func([]byte) bool {
	return func(headed []byte) bool {
		p := headed[vnetHeader:]
		if !f(p) {
			return false
		}
		if headed[0]&vnetNeedsSum != 0 { // what f has corrected is not yet a checksum
			resize(p, udpAt(p))
		}
		return true
	}
}
