package tailfin

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/time/rate"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// The limits of a Server whose fields are zero.
const (
	DefaultMaxConns         = 1 << 16
	DefaultMaxConnsPerAddr  = 1 << 12
	DefaultMaxResets        = 200
	DefaultMaxUselessFrames = 2000
)

// LimitWindow is over how long MaxResets and MaxUselessFrames count.
const LimitWindow = 10 * time.Second

// maxStreams stands for no limit of requests at once. quic-go (v0.65.0) makes a
// stream for every lower ID than one it meets, so that some limit must stand.
const maxStreams = 1 << 16

// limitOf turns a field into a limit: zero is the default, negative is none.
func limitOf(field, byDefault int) int {
	switch {
	case field == 0:
		return byDefault
	case field < 0:
		return math.MaxInt
	}
	return field
}

// errTooManyConns and errTooManyFrom refuse a connection.
var (
	errTooManyConns = errors.New("tailfin: too many connections")
	errTooManyFrom  = errors.New("tailfin: too many connections from one address")
)

// connLimits counts connections by where they come from.
type connLimits struct {
	mu   sync.Mutex
	all  int
	from networkCounts
}

// networkCounts has how many there are of each network.
type networkCounts map[netip.Prefix]int

// add counts one more.
func (c *networkCounts) add(network netip.Prefix) {
	if *c == nil {
		*c = make(networkCounts)
	}
	(*c)[network]++
}

// remove takes one off.
func (c networkCounts) remove(network netip.Prefix) {
	if c[network]--; c[network] <= 0 {
		delete(c, network)
	}
}

// NetworkOf is what MaxConnsPerAddr counts by: an IPv4 address, or the /64 that an
// IPv6 host has to itself. It is not valid for another kind of address.
func NetworkOf(addr net.Addr) netip.Prefix {
	udp, ok := addr.(*net.UDPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := udp.AddrPort().Addr().Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	network, _ := ip.Prefix(bits)
	return network
}

// check tells whether one more connection from addr is within the limits of s.
func (l *connLimits) check(s *Server, addr net.Addr) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	network := NetworkOf(addr)
	switch {
	case l.all >= limitOf(s.MaxConns, DefaultMaxConns):
		return errTooManyConns
	case network.IsValid() && l.from[network] >= limitOf(s.MaxConnsPerAddr, DefaultMaxConnsPerAddr):
		return errTooManyFrom
	}
	return nil
}

// add counts a connection.
func (l *connLimits) add() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all++
}

// addFrom counts it by its address as well. Until the handshake is complete the
// address may be forged, to use up what another has.
func (l *connLimits) addFrom(network netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.from.add(network)
}

// remove takes a connection off. network is not valid if it was counted by none.
func (l *connLimits) remove(network netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if network.IsValid() {
		l.from.remove(network)
	}
}

// open is the number of connections.
func (l *connLimits) open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all
}

// count holds a new connection against the limits, and counts it if it is within.
func (c *serverConn) count() {
	s := c.server
	if c.refusal = s.limits.check(s, c.h3.quic.RemoteAddr()); c.refusal == nil {
		s.limits.add()
		s.stats.conns.Add(1)
	}
}

// countFrom counts the connection by its address, once that is proven.
func (c *serverConn) countFrom() {
	select {
	case <-c.h3.quic.HandshakeComplete():
	case <-c.h3.quic.Context().Done():
		return
	}
	if network := NetworkOf(c.h3.quic.RemoteAddr()); network.IsValid() {
		c.server.limits.addFrom(network)
		c.network = network
	}
}

// uncount takes the connection off the counts. serve has ended.
func (c *serverConn) uncount() {
	if c.refusal == nil {
		c.server.limits.remove(c.network)
	}
}

// refuseInitial is the check before a handshake, where refusing costs one packet:
// CONNECTION_REFUSED (RFC 9000 §20.1). Handshakes under way are no connections yet, so
// that the check after them stands too.
func (s *Server) refuseInitial(info *quic.ClientInfo) error {
	err := s.limits.check(s, info.RemoteAddr)
	if err == nil {
		err = s.handshakes.check(s, info)
	}
	if err != nil {
		s.refused(info.RemoteAddr, err)
	}
	return err
}

// refusedLines is how many connections that were refused are logged each; beyond them it
// is one a second, since each may be a packet of a flood.
const refusedLines = 100

// A refusedLog keeps lines of the log in bounds.
type refusedLog struct {
	once  sync.Once
	lines rate.Sometimes
}

func (l *refusedLog) do(f func()) {
	l.once.Do(func() { l.lines.First, l.lines.Interval = refusedLines, time.Second })
	l.lines.Do(f)
}

// refused counts and logs a connection that was refused.
func (s *Server) refused(addr net.Addr, err error) {
	switch {
	case errors.Is(err, errTooManyConns):
		s.stats.connsRefused.Add(1)
	case errors.Is(err, errTooManyFrom):
		s.stats.connsRefusedPerAddr.Add(1)
	default:
		s.stats.handshakesRefused.Add(1)
	}
	s.refusedLog.do(func() { s.logger().Warn("connection refused", "peer", addr.String(), "reason", err.Error()) })
}

// A floodMeter holds bad events against good ones within a window.
type floodMeter struct {
	limit int // bad events beyond the good ones

	mu        sync.Mutex
	since     time.Time // when the window began
	bad, good int
}

// noteGood counts something that shows a peer at honest work.
func (m *floodMeter) noteGood(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.roll(now)
	m.good++
}

// noteBad counts n bad events, and reports whether they are too many.
func (m *floodMeter) noteBad(now time.Time, n int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.roll(now)
	m.bad += n
	return m.bad-m.good > m.limit
}

// roll begins a new window when the last is over. The caller holds mu.
func (m *floodMeter) roll(now time.Time) {
	if now.Sub(m.since) >= LimitWindow {
		m.since, m.bad, m.good = now, 0, 0
	}
}

// answered counts a request whose answer was sent.
func (c *serverConn) answered() {
	c.server.stats.requestsAnswered.Add(1)
	now := time.Now()
	c.resets.noteGood(now)
	c.useless.noteGood(now)
}

// unanswered counts a request that its client reset before it was answered, or that
// was malformed or had too large a head. Each costs a stream, perhaps a handler, and the client next to
// nothing (CVE-2023-44487).
func (c *serverConn) unanswered(count *atomic.Uint64) {
	count.Add(1)
	if c.resets.noteBad(time.Now(), 1) {
		c.overload(&c.server.stats.rapidResets, fmt.Sprintf("more than %d requests reset, malformed or too large in %v", c.resets.limit, LimitWindow))
	}
}

// wasted counts frames that bring nothing: unknown and empty ones, and all on the
// control stream (RFC 9114 §10.5), and those of QUIC that the barrier tells of
// (RFC 9000 §21.9).
func (c *serverConn) wasted(frames uint64) {
	if c.useless.noteBad(time.Now(), int(min(frames, math.MaxInt32))) {
		c.overload(&c.server.stats.frameFloods, fmt.Sprintf("more than %d frames without use in %v", c.useless.limit, LimitWindow))
	}
}

// overload closes the connection, once.
func (c *serverConn) overload(count *atomic.Uint64, reason string) {
	if c.overloaded.CompareAndSwap(false, true) {
		count.Add(1)
		go c.h3.fail(connError(h3frame.ErrCodeExcessiveLoad, reason)) // it waits for the run loop
	}
}

// resetByPeer tells an error that RESET_STREAM or STOP_SENDING has led to.
func resetByPeer(err error) bool {
	var reset *quic.StreamError
	return errors.As(err, &reset) && reset.Remote
}
