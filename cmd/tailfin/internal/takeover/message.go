package takeover

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/tailfin-quic/tailfin/udp"
)

// protocolVersion is that of everything in this file. An instance takes over only
// from one that speaks the same.
const protocolVersion = 1

// A kind is the first byte of a message.
type kind byte

const (
	kindHello    kind = 'h' // new to old: hello
	kindOffer    kind = 'o' // old to new: offer, with descriptors
	kindRefusal  kind = 'x' // old to new: refusal, and the end
	kindReady    kind = 'r' // new to old: I serve; send newcomers to me
	kindYield    kind = 'y' // old to new: I do, and nobody else will take over from me
	kindDrained  kind = 'd' // old to new: my connections are over
	kindHeir     kind = 's' // new to old: true if another has taken over from me, false if that has ended
	kindDatagram kind = 'u' // both ways
)

// maxMessage bounds what is read at a time.
const maxMessage = 64 << 10

// maxDatagram bounds the payload that is forwarded. It exceeds the longest packet
// that quic-go (v0.65.0) takes, 1452 bytes.
const maxDatagram = 2048

// maxGroups is how many older instances the kernel is made to steer to; what is for
// those before them is forwarded.
const maxGroups = 4

// hello is what a new instance says first.
type hello struct {
	Version int `json:"version"`
	// Takeover tells that it wants to take over; otherwise it only asks who is there.
	Takeover bool `json:"takeover"`
}

// offer is what the new instance needs. With it go descriptors: the listening
// control socket and the map of sockets of each group.
type offer struct {
	Version    int     `json:"version"`
	Generation uint8   `json:"generation"` // of the new instance
	Groups     []group `json:"groups"`     // older instances, the youngest first
	Keys       Keys    `json:"keys"`
}

// check tells what is wrong with an offer that came with so many descriptors.
func (o *offer) check(descriptors int) error {
	switch {
	case o.Version != protocolVersion:
		return fmt.Errorf("it speaks version %d of the hand-over, not %d; stop it first", o.Version, protocolVersion)
	case len(o.Groups) > maxGroups || descriptors != 1+len(o.Groups):
		return fmt.Errorf("%d groups with %d descriptors", len(o.Groups), descriptors)
	case len(o.Keys.Tickets) > maxTicketKeys:
		return fmt.Errorf("%d keys of session tickets", len(o.Keys.Tickets))
	case o.Keys.StatelessReset == [32]byte{} || o.Keys.Token == [32]byte{}:
		return errors.New("it has no keys")
	}
	for _, g := range o.Groups {
		if g.Shards < 1 || g.Shards > udp.MaxShards {
			return fmt.Errorf("%d shards", g.Shards)
		}
	}
	return nil
}

// group is an udp.Group without its descriptor.
type group struct {
	Generation uint8 `json:"generation"`
	Shards     int   `json:"shards"`
}

// refusal says why there is no offer.
type refusal struct {
	Version int    `json:"version"`
	InUse   bool   `json:"in_use"` // it was not asked to let go
	Reason  string `json:"reason"`
}

// encode makes a message of a kind and what belongs to it, nil for nothing.
func encode(k kind, v any) ([]byte, error) {
	if v == nil {
		return []byte{byte(k)}, nil
	}
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(body) >= maxMessage {
		return nil, fmt.Errorf("message %q of %d bytes; at most %d are read", k, len(body), maxMessage)
	}
	return append([]byte{byte(k)}, body...), nil
}

// decode takes what belongs to a message of a kind.
func decode(message []byte, want kind, v any) error {
	if len(message) == 0 || kind(message[0]) != want {
		return fmt.Errorf("message %.1q, want %q", message, want)
	}
	if err := json.Unmarshal(message[1:], v); err != nil {
		return fmt.Errorf("message %q: %w", want, err)
	}
	return nil
}

// appendDatagram appends the message of a datagram.
//
//	kind │ length of address (1) │ length of control (2) │ address │ control │ payload
//
// The address is as netip.AddrPort.MarshalBinary makes it, the control messages are
// as the kernel made them: both ends run on it.
func appendDatagram(b []byte, d udp.Datagram) ([]byte, error) {
	if len(d.Payload) > maxDatagram || len(d.Control) > maxMessage/2 {
		return b, errTooLong
	}
	start := len(b)
	b = append(b, byte(kindDatagram), 0, 0, 0)
	b, err := d.From.AddrPort().AppendBinary(b)
	if err != nil {
		return b, err
	}
	n := len(b) - start - datagramHeader
	if n > 0xff {
		return b, errTooLong // the name of an interface has 15 bytes at most
	}
	b[start+1] = byte(n)
	binary.BigEndian.PutUint16(b[start+2:], uint16(len(d.Control)))
	b = append(b, d.Control...)
	return append(b, d.Payload...), nil
}

const datagramHeader = 4

var (
	errTooLong = errors.New("too long to be forwarded")
	errCut     = errors.New("a forwarded datagram is cut")
)

// An addrBook makes a *net.UDPAddr once for each peer.
type addrBook map[netip.AddrPort]*net.UDPAddr

const maxAddrs = 4096

func (a *addrBook) lookup(ap netip.AddrPort) *net.UDPAddr {
	addr := (*a)[ap]
	if addr == nil {
		if *a == nil || len(*a) >= maxAddrs {
			*a = make(addrBook)
		}
		addr = net.UDPAddrFromAddrPort(ap)
		(*a)[ap] = addr
	}
	return addr
}

// parseDatagram is the opposite of appendDatagram. The result points into b.
func parseDatagram(b []byte, addrs *addrBook) (udp.Datagram, error) {
	if len(b) < datagramHeader {
		return udp.Datagram{}, errCut
	}
	addrLen, controlLen := int(b[1]), int(binary.BigEndian.Uint16(b[2:]))
	b = b[datagramHeader:]
	if len(b) < addrLen+controlLen {
		return udp.Datagram{}, errCut
	}
	var from netip.AddrPort
	if err := from.UnmarshalBinary(b[:addrLen]); err != nil {
		return udp.Datagram{}, err
	}
	if !from.IsValid() {
		return udp.Datagram{}, errCut
	}
	return udp.Datagram{
		From:    addrs.lookup(from),
		Control: b[addrLen : addrLen+controlLen],
		Payload: b[addrLen+controlLen:],
	}, nil
}
