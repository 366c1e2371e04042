package tailfin

import (
	"bytes"
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailfin-quic/tailfin/udp"
)

// resetTokenLen is the length of a stateless reset token, which is what the
// datagram ends with, and minStatelessReset that of the shortest such datagram
// (RFC 9000 §10.3).
const (
	resetTokenLen     = 16
	minStatelessReset = 21
)

// maxTokens is how many tokens of one connection are watched, the newest. quic-go
// (v0.65.0) lets a peer have four connection IDs at a time.
const maxTokens = 8

// maxHeldResets is how many stateless resets of one connection are kept back at a
// time. There may be several: of a token that is not in use any more quic-go makes
// nothing.
const maxHeldResets = maxTokens

// resetSettle is how long a connection must have received nothing, twice in a row,
// to count as having handled what came before a stateless reset, and resetPatience
// how often that is looked at.
const (
	resetSettle   = 10 * time.Millisecond
	resetPatience = 10
)

// A resetToken is a stateless reset token.
type resetToken = [resetTokenLen]byte

// A resetGuard keeps the stateless resets of a socket back until the connections
// that they end have been drained. quic-go (v0.65.0) closes such a connection at
// once, ahead even of packets that it has received before.
type resetGuard struct {
	inspection *udp.Inspection
	dropped    *droppedPackets // counts datagrams that are no QUIC; may be nil

	// filter has a bit for the first two bytes of every token, so that a datagram
	// that is none costs a load. Bits are cleared only when tokens are many.
	filter [1 << 16 / 64]atomic.Uint64

	mu     sync.Mutex
	tokens map[resetToken]*barrier
	stale  int // tokens dropped since the filter was made
}

// guardResets puts a guard before conn. It returns nil for a socket of another kind.
// Since it looks at every datagram it counts those that are no QUIC as well.
func guardResets(conn net.PacketConn, dropped *droppedPackets) *resetGuard {
	c, ok := conn.(*udp.Conn)
	if !ok {
		return nil
	}
	g := &resetGuard{tokens: make(map[resetToken]*barrier), dropped: dropped}
	g.inspection = c.Inspect(g.inspect)
	return g
}

// remove takes the guard away.
func (g *resetGuard) remove() {
	if g != nil {
		g.inspection.Remove()
	}
}

// inspect lets everything pass that is no stateless reset of a watched connection.
func (g *resetGuard) inspect(d udp.Datagram) bool {
	const headerForm, fixedBit = 0x80, 0x40 // RFC 9000 §17.3
	p := d.Payload
	if len(p) == 0 || p[0]&(headerForm|fixedBit) == 0 {
		if g.dropped != nil {
			g.dropped.n.Add(1) // quic-go (v0.65.0) drops it, or hands it to ReadNonQUICPacket
		}
		return true
	}
	if len(p) < minStatelessReset || p[0]&(headerForm|fixedBit) != fixedBit {
		return true
	}
	token := resetToken(p[len(p)-resetTokenLen:])
	if !g.mayHave(&token) {
		return true
	}
	g.mu.Lock()
	b := g.tokens[token]
	g.mu.Unlock()
	if b == nil {
		return true
	}
	if b.resets.Add(1) > maxHeldResets {
		b.resets.Add(-1)
		return false // the peer sends another for our next packet
	}
	d.Payload, d.Control = bytes.Clone(p), bytes.Clone(d.Control)
	go func() {
		defer b.resets.Add(-1)
		b.settle()
		b.drainAhead(&b.counters.reset)
		g.inspection.Deliver(d)
	}()
	return false
}

// settle waits until the connection has handled what it has received.
func (b *barrier) settle() {
	seen, quiet := b.received.Load(), 0
	for range resetPatience {
		time.Sleep(resetSettle)
		now := b.received.Load()
		if quiet++; now != seen {
			seen, quiet = now, 0
		}
		if quiet == 2 {
			return
		}
	}
}

func (g *resetGuard) mayHave(t *resetToken) bool {
	h := binary.LittleEndian.Uint16(t[:])
	return g.filter[h/64].Load()&(1<<(h%64)) != 0
}

// mark sets a token's bit. The caller holds mu.
func (g *resetGuard) mark(t *resetToken) {
	h := binary.LittleEndian.Uint16(t[:])
	g.filter[h/64].Or(1 << (h % 64))
}

// watch has resets with this token kept back for b.
func (g *resetGuard) watch(t resetToken, b *barrier) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tokens[t] = b
	g.mark(&t)
}

// forget drops tokens, and makes the filter anew when most of it is of such.
func (g *resetGuard) forget(tokens ...resetToken) {
	const many = 4096
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range tokens {
		delete(g.tokens, t)
		g.stale++
	}
	if g.stale < many || g.stale < len(g.tokens) {
		return
	}
	// A datagram that passes meanwhile is treated as without a guard.
	for i := range g.filter {
		g.filter[i].Store(0)
	}
	for t := range g.tokens {
		g.mark(&t)
	}
	g.stale = 0
}

// watchToken notes a stateless reset token that the peer has issued.
func (b *barrier) watchToken(t resetToken) {
	if b.guard == nil {
		return
	}
	b.mu.Lock()
	b.tokens = append(b.tokens, t)
	var old []resetToken
	if n := len(b.tokens) - maxTokens; n > 0 {
		old, b.tokens = b.tokens[:n:n], b.tokens[n:]
	}
	b.mu.Unlock()
	b.guard.watch(t, b)
	if len(old) > 0 {
		b.guard.forget(old...)
	}
}

// unwatchTokens forgets all of them.
func (b *barrier) unwatchTokens() {
	if b.guard == nil {
		return
	}
	b.mu.Lock()
	tokens := b.tokens
	b.tokens = nil
	b.mu.Unlock()
	b.guard.forget(tokens...)
}
