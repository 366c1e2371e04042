package tailfin

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlogwriter"
)

// DefaultMaxHandshakes is the MaxHandshakes of a Server whose field is zero.
const DefaultMaxHandshakes = 1 << 12

// Handshakes under way.
//
// A handshake costs a server some ten KiB and a signature from its first packet on, which
// whoever sends it may have from a forged address, and quic-go (v0.65.0) keeps one that
// does not go on for five seconds. So there are three lines of defence:
//
//	½ of MaxHandshakes   clients prove their address by a Retry, which keeps nothing
//	                     (RFC 9000 §8.1.2); forged ones get no further
//	⅛ of them            that many may a proven address have then
//	all of them          others are refused
const (
	retryShare = 2 // of MaxHandshakes
	addrShare  = 8
)

// errTooManyHandshakes and errTooManyHandshakesFrom refuse a connection.
var (
	errTooManyHandshakes     = errors.New("tailfin: too many handshakes under way")
	errTooManyHandshakesFrom = errors.New("tailfin: too many handshakes under way from one address")
)

// handshakes counts those under way, and where they come from if that is proven.
type handshakes struct {
	mu   sync.Mutex
	all  int
	from networkCounts
}

// A handshake is one under way, from its first packet until it is complete or over.
type handshake struct {
	server *Server
	from   netip.Prefix // not valid unless proven

	mu    sync.Mutex
	ended bool
}

// VerifySourceAddress is for the quic.Transport of your own that is given to
// ServeTransport: it has clients prove their address while half of MaxHandshakes are
// under way. Serve sees to it itself.
func (s *Server) VerifySourceAddress(net.Addr) bool {
	s.handshakes.mu.Lock()
	busy := s.handshakes.all >= max(1, limitOf(s.MaxHandshakes, DefaultMaxHandshakes)/retryShare)
	s.handshakes.mu.Unlock()
	if busy {
		s.stats.retries.Add(1)
	}
	return busy
}

// check tells whether one more handshake may begin.
func (h *handshakes) check(s *Server, info *quic.ClientInfo) error {
	limit := limitOf(s.MaxHandshakes, DefaultMaxHandshakes)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.all >= limit:
		return errTooManyHandshakes
	case info.AddrVerified && h.from[NetworkOf(info.RemoteAddr)] >= max(1, limit/addrShare):
		return errTooManyHandshakesFrom
	}
	return nil
}

// begin counts a handshake.
func (h *handshakes) begin(s *Server, info *quic.ClientInfo) *handshake {
	one := &handshake{server: s}
	if info.AddrVerified {
		one.from = NetworkOf(info.RemoteAddr)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all++
	if one.from.IsValid() {
		h.from.add(one.from)
	}
	return one
}

// active is the number of handshakes under way.
func (h *handshakes) active() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all
}

// end takes the handshake off the count, once. It may be nil.
func (one *handshake) end(complete bool) {
	if one == nil {
		return
	}
	one.mu.Lock()
	before := one.ended
	one.ended = true
	one.mu.Unlock()
	if before {
		return
	}
	if !complete {
		one.server.stats.handshakesFailed.Add(1)
	}
	h := &one.server.handshakes
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all--
	if one.from.IsValid() {
		h.from.remove(one.from)
	}
}

// countHandshake returns conf with a tracer that counts the handshake of the connection
// that it is for. Only the barrier's can tell when it is over.
func (s *Server) countHandshake(conf *quic.Config, info *quic.ClientInfo) *quic.Config {
	newTrace := conf.Tracer
	if newTrace == nil || s.DisableDrain {
		return conf
	}
	conf = conf.Clone()
	conf.Tracer = func(ctx context.Context, isClient bool, id quic.ConnectionID) qlogwriter.Trace {
		trace := newTrace(ctx, isClient, id)
		if b, ok := trace.(*barrier); ok {
			b.handshake = s.handshakes.begin(s, info)
		}
		return trace
	}
	return conf
}
