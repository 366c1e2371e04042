package peer

import (
	"context"
	"net"
	"sync"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// A Hostile is a client that sends what no QUIC stack sends to order. quic-go makes the
// handshake; then it is taken off the wire, and each further packet holds the frames
// that are asked for, sealed with the connection's own secrets:
//
//	quic-go ── handshake, SETTINGS ──▶ peer
//	   ╳ mute
//	Hostile ── [PING PING PING …][STREAM at 1 GB][ACK of what was never sent] ──▶ peer
//
// It reads nothing and acknowledges nothing. It is safe for concurrent use.
type Hostile struct {
	burst *Burst
	keys  *packetKeys
	dcid  []byte
	to    *net.UDPAddr

	mu   sync.Mutex
	next uint32 // packet number
}

// DialHostile connects to a server on loopback and sends SETTINGS.
func DialHostile(ctx context.Context, addr string) (*Hostile, error) {
	b, err := DialBurst(ctx, addr)
	if err != nil {
		return nil, err
	}
	h := &Hostile{burst: b, next: FirstNumber}
	h.dcid, h.to = b.tap.mute()
	secret, err := b.keyLog.secret(b.label)
	if err == nil {
		h.keys, err = newPacketKeys(b.conn.ConnectionState().TLS.CipherSuite, secret, b.watch.phase.Load())
	}
	if err != nil {
		b.Close()
		return nil, err
	}
	return h, nil
}

// Close ends the sender without a word to the peer.
func (h *Hostile) Close() { h.burst.Close() }

// Leave tells the peer that the connection is over. It may have to be told again: what a
// peer has no room for it drops.
func (h *Hostile) Leave() error {
	return h.Send(AppendCloseFrame(nil, Close{Code: uint64(h3frame.ErrCodeNoError)}))
}

// LocalAddr is the address that the peer knows it by.
func (h *Hostile) LocalAddr() *net.UDPAddr {
	addr, _ := h.burst.tap.LocalAddr().(*net.UDPAddr)
	return addr
}

// Room is how many bytes of frames a packet holds.
func (h *Hostile) Room() int { return burstPacket - overhead(h.dcid) }

// Fill repeats frames until a packet is full. next makes the frame with number i.
func (h *Hostile) Fill(next func(i int) []byte) []byte {
	var b []byte
	for i := 0; ; i++ {
		f := next(i)
		if len(b)+len(f) > h.Room() {
			return b
		}
		b = append(b, f...)
	}
}

// Seal makes a packet of frames.
func (h *Hostile) Seal(frames []byte) []byte {
	const sampled = 4 // bytes that header protection needs
	for len(frames) < sampled {
		frames = append(frames, 0) // PADDING
	}
	h.mu.Lock()
	number := h.next
	h.next++
	h.mu.Unlock()
	return h.keys.seal(h.dcid, number, frames)
}

// Send sends a packet for each of frames.
func (h *Hostile) Send(frames ...[]byte) error {
	for _, f := range frames {
		if err := h.SendFrom(h.burst.tap.udp, h.Seal(f)); err != nil {
			return err
		}
	}
	return nil
}

// SendFrom sends datagrams as they are, from a socket of the caller's: that of an
// attacker elsewhere, who has seen packets.
func (h *Hostile) SendFrom(conn *net.UDPConn, datagrams ...[]byte) error {
	for _, d := range datagrams {
		if _, err := conn.WriteToUDP(d, h.to); err != nil {
			return err
		}
	}
	return nil
}

// SendTrain sends datagrams by one system call (UDP_SEGMENT). All have the size of the
// first but the last, which may be shorter.
func (h *Hostile) SendTrain(datagrams ...[]byte) error {
	return writeTrain(h.burst.tap.udp, h.to, len(datagrams[0]), datagrams)
}

// Forge is a packet with the peer's connection ID that is not authentic, of n bytes or
// more: what someone can make who has seen one.
func (h *Hostile) Forge(n int) []byte {
	p := h.Seal(make([]byte, max(n-overhead(h.dcid), packetNumberLen)))
	p[len(p)-1] ^= 1
	return p
}
