// Package limits bounds how fast the daemon takes new connections and requests.
// What a connection may do once it is there is bounded by tailfin.Server.
package limits

import (
	"errors"
	"math"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/quic-go/quic-go"
	"golang.org/x/time/rate"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/accesslog"
)

// Rates are in events a second.
type Rates struct {
	// Retry is the rate of new connections above which clients have to prove their
	// address first (RFC 9000 §8.1.2), which costs them a round trip. 0 asks all, a
	// negative value none.
	Retry float64
	// Handshakes is the rate of new connections above which the rest are refused.
	// 0 is any rate.
	Handshakes float64
	// AddrHandshakes and AddrRequests are such rates for one IPv4 address or one
	// IPv6 /64. 0 is any rate.
	AddrHandshakes, AddrRequests float64
}

// Limits holds clients to Rates. It is safe for concurrent use.
type Limits struct {
	now atomic.Pointer[limiters]

	addrHandshakes, addrRequests *perAddr

	retries prometheus.Counter
	refused *prometheus.CounterVec
	tooFast prometheus.Counter
}

// New makes limits, and registers their metrics with reg if it is not nil.
func New(r Rates, reg prometheus.Registerer) *Limits {
	l := &Limits{
		addrHandshakes: newPerAddr(), addrRequests: newPerAddr(),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tailfin_limits_retries_total", Help: "Initial packets that were answered by a Retry, so that the client proves its address; an attempt to connect has one or two.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tailfin_limits_handshakes_refused_total", Help: "Initial packets that were refused, by the rate that was exceeded; an attempt to connect has one or two.",
		}, []string{"limit"}),
		tooFast: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tailfin_limits_requests_refused_total", Help: "Requests answered 429 for the rate of their address.",
		}),
	}
	for _, limit := range []string{allAddrs, oneAddr} {
		l.refused.WithLabelValues(limit)
	}
	if reg != nil {
		reg.MustRegister(l.retries, l.refused, l.tooFast)
	}
	l.Set(r)
	return l
}

// The values of the label limit.
const (
	allAddrs = "all"
	oneAddr  = "address"
)

// limiters are those of all addresses together.
type limiters struct {
	rates      Rates
	retry      *rate.Limiter // nil asks nobody
	handshakes *rate.Limiter // nil admits all
}

// Set changes the rates.
func (l *Limits) Set(r Rates) {
	if old := l.now.Load(); old != nil && old.rates == r {
		return // what is used up stays so
	}
	n := &limiters{rates: r}
	if r.Retry >= 0 {
		n.retry = rate.NewLimiter(rate.Limit(r.Retry), burst(r.Retry))
	}
	if r.Handshakes > 0 {
		n.handshakes = rate.NewLimiter(rate.Limit(r.Handshakes), burst(r.Handshakes))
	}
	l.now.Store(n)
	l.addrHandshakes.set(r.AddrHandshakes)
	l.addrRequests.set(r.AddrRequests)
}

// burst is how many may come at once: those of a second.
func burst(perSecond float64) int { return int(math.Ceil(min(perSecond, 1e9))) }

// VerifySourceAddress is for quic.Transport.
func (l *Limits) VerifySourceAddress(net.Addr) bool {
	if limiter := l.now.Load().retry; limiter == nil || limiter.Allow() {
		return false
	}
	l.retries.Inc()
	return true
}

var (
	errHandshakes     = errors.New("too many new connections")
	errAddrHandshakes = errors.New("too many new connections from this address")
)

// Admit is for quic.Config.GetConfigForClient: an error refuses the connection.
func (l *Limits) Admit(info *quic.ClientInfo) (*quic.Config, error) {
	// The address's own rate first, so that a single flood does not use up that of all.
	// Unless AddrVerified an attacker may have forged the address to have its owner
	// refused; above the rate of Retry it cannot.
	if !l.addrHandshakes.allow(info.RemoteAddr) {
		l.refused.WithLabelValues(oneAddr).Inc()
		return nil, errAddrHandshakes
	}
	if limiter := l.now.Load().handshakes; limiter != nil && !limiter.Allow() {
		l.refused.WithLabelValues(allAddrs).Inc()
		return nil, errHandshakes
	}
	return nil, nil
}

var errRequests = errors.New("too many requests a second from this address (--addr-requests)")

// Handler answers requests above the rate of their address with 429.
func (l *Limits) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		addr, _ := r.Context().Value(tailfin.RemoteAddrContextKey).(net.Addr)
		if addr != nil && !l.addrRequests.allow(addr) {
			l.tooFast.Inc()
			accesslog.Fail(r.Context(), errRequests)
			w.Header().Set("Retry-After", "1")
			http.Error(w, "too many requests from your address; try again in a second", http.StatusTooManyRequests)
			return
		}
		next.ServeHTTP(w, r)
	})
}
