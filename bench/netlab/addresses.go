package netlab

import "net/netip"

// The addresses of the hosts: those that are set aside for benchmarks (RFC 2544 App.
// C.2.2, RFC 5180 §8). They are no one's elsewhere, and here they are in namespaces
// that nothing else is in.
var (
	network4 = netip.MustParsePrefix("198.18.0.0/15")
	network6 = netip.MustParsePrefix("2001:2::/48")

	receiver4 = netip.MustParseAddr("198.18.0.1")
	receiver6 = netip.MustParseAddr("2001:2::1")
	sender4   = netip.MustParseAddr("198.19.0.1")
	sender6   = netip.MustParseAddr("2001:2::2:1")

	// What the receiver sees of a sender behind a NAT.
	natHome4 = netip.MustParseAddr("198.19.128.1")
	natHome6 = netip.MustParseAddr("2001:2::3:1")
	natHomes = netip.MustParsePrefix("198.19.128.0/17")
)
