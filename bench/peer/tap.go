package peer

import (
	"net"
	"sync"
	"syscall"
	"time"
)

// A tap is the socket of one quic-go connection. It learns which connection ID
// the peer goes by, and can take the connection off the wire, so that packets
// of another make are the last that the peer gets.
//
// It has no WriteMsgUDP, so that quic-go (v0.65.0) writes one packet at a time
// by WriteTo.
type tap struct {
	udp *net.UDPConn

	mu    sync.Mutex
	muted bool
	dcid  []byte       // of the last packet sent
	peer  *net.UDPAddr // where that went
}

var _ net.PacketConn = (*tap)(nil)

var loopback = net.IPv4(127, 0, 0, 1)

// listenTap opens a socket for a peer with address toward.
func listenTap(toward net.IP) (*tap, error) {
	at := &net.UDPAddr{}
	if toward.IsLoopback() {
		at.IP = loopback
	}
	conn, err := net.ListenUDP("udp4", at)
	if err != nil {
		return nil, err
	}
	return &tap{udp: conn}, nil
}

// Header forms (RFC 8999 §5): a long header names the length of its connection
// IDs, a short one does not, but the ID is as long as it was in the handshake.
const (
	longForm     = 0x80
	longDCIDLen  = 5 // offset of the length byte
	shortDCIDPos = 1
)

// WriteTo sends a datagram of quic-go, and notes its destination.
func (t *tap) WriteTo(p []byte, addr net.Addr) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.muted {
		return len(p), nil
	}
	at, n := shortDCIDPos, len(t.dcid)
	if p[0]&longForm != 0 {
		at, n = longDCIDLen+1, int(p[longDCIDLen])
	}
	t.dcid = append(t.dcid[:0], p[at:at+n]...)
	if to, ok := addr.(*net.UDPAddr); ok {
		t.peer = to
	}
	return t.udp.WriteTo(p, addr)
}

// mute takes quic-go off the wire, and returns where its packets went.
func (t *tap) mute() (dcid []byte, peer *net.UDPAddr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.muted = true
	return t.dcid, t.peer
}

// ReadFrom reads a datagram for quic-go. A muted tap reads on and hands out
// nothing: quic-go would learn of acknowledgements for packets it never sent.
func (t *tap) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, addr, err := t.udp.ReadFrom(p)
		t.mu.Lock()
		muted := t.muted
		t.mu.Unlock()
		if err != nil || !muted {
			return n, addr, err
		}
	}
}

// The rest of what quic-go looks for is net.UDPConn's.

func (t *tap) Close() error                          { return t.udp.Close() }
func (t *tap) LocalAddr() net.Addr                   { return t.udp.LocalAddr() }
func (t *tap) SetDeadline(d time.Time) error         { return t.udp.SetDeadline(d) }
func (t *tap) SetReadDeadline(d time.Time) error     { return t.udp.SetReadDeadline(d) }
func (t *tap) SetWriteDeadline(d time.Time) error    { return t.udp.SetWriteDeadline(d) }
func (t *tap) SyscallConn() (syscall.RawConn, error) { return t.udp.SyscallConn() }
func (t *tap) SetReadBuffer(n int) error             { return t.udp.SetReadBuffer(n) }
func (t *tap) SetWriteBuffer(n int) error            { return t.udp.SetWriteBuffer(n) }
