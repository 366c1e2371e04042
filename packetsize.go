package tailfin

import "github.com/quic-go/quic-go"

// firstPacketSize is the size of the packets, in bytes of UDP payload, that a connection
// begins with, also on a new path: what each path carries that carries QUIC (RFC 9000 §14).
// Path MTU discovery finds what more there is within some round trips.
//
// quic-go's own choice of 1280 (v0.65.0) is too much for an MTU of 1280, which is IPv6's
// least and that of many tunnels. It goes back to 1200 if the sender's own device refuses
// the first packet; but where it vanishes on the way, the handshake never comes to its end.
const firstPacketSize = 1200

// fitPackets chooses that size, unless conf says one.
func fitPackets(conf *quic.Config) {
	if conf.InitialPacketSize == 0 {
		conf.InitialPacketSize = firstPacketSize
	}
}
