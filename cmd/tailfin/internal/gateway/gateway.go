package gateway

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/quic-go/quic-go"
	"github.com/sony/gobreaker/v2"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
	"github.com/tailfin-quic/tailfin/udp"
)

// Config says what a Gateway is made of. Zero values are defaults, but for Upstream.
type Config struct {
	// Upstream is the URL of the upstream.
	Upstream string
	// TLS is for https:// and h3://: the roots to trust, a client certificate.
	TLS *tls.Config
	// QUIC and ListenOptions are for the connections over HTTP/3. If QUIC leaves its
	// initial receive windows at zero, answers that wait for slow clients hold a MiB
	// each and do not keep others waiting.
	QUIC          *quic.Config
	ListenOptions []udp.Option
	// Dial, if not nil, makes the connections over HTTP/3: tailfin.Transport.Dial.
	Dial func(ctx context.Context, addr string, tlsConf *tls.Config, quicConf *quic.Config) (*quic.Conn, error)
	// PreserveHost sends the client's Host on, in place of the upstream's.
	PreserveHost bool
	// MaxBody bounds the body of a request in bytes; 413 answers a longer one. Zero
	// means no bound.
	MaxBody int64
	// MaxConns bounds the connections to the upstream. Zero means 256.
	MaxConns int
	// DialTimeout bounds the making of a connection. Zero means 5 seconds.
	DialTimeout time.Duration
	// HeaderTimeout bounds the wait for a response to begin, once the request was
	// sent. Zero means a minute.
	HeaderTimeout time.Duration
	// BreakerFailures in a row open the circuit for BreakerOpenFor. Zero means 5,
	// and 10 seconds.
	BreakerFailures int
	BreakerOpenFor  time.Duration
	// ReplayPerRequest and ReplayTotal bound what is kept of bodies, in bytes, so that
	// requests can be sent again. Zero means tailfin.DefaultReplayPerRequest and
	// tailfin.DefaultReplayTotal.
	ReplayPerRequest, ReplayTotal int
	// Registerer takes the metrics. Nil means none.
	Registerer prometheus.Registerer
	// Logger gets what belongs to no request. Nil means slog.Default.
	Logger *slog.Logger
}

const defaultOpenFor = 10 * time.Second

// A Gateway is an http.Handler that forwards to one upstream. It is to be served by
// a tailfin.Server, or by an http.Server.
type Gateway struct {
	conf      Config
	upstream  upstream
	pseudonym string

	proxy   *httputil.ReverseProxy
	replay  *tailfin.Replay
	http3   *tailfin.Transport // nil for http://
	tcp     *http.Transport    // nil for h3://
	caps    *tailfin.Capabilities
	breaker *tailfin.Breaker
	metrics *metrics
	maxBody atomic.Int64 // Config.MaxBody, or what SetMaxBody has put in its place
}

var (
	_ http.Handler = (*Gateway)(nil)
	_ io.Closer    = (*Gateway)(nil)
)

// CheckURL tells what is wrong with the URL of an upstream.
func CheckURL(raw string) error {
	_, err := parseUpstream(raw)
	return err
}

// New makes a gateway. Nothing is sent before the first request.
func New(conf Config) (*Gateway, error) {
	up, err := parseUpstream(conf.Upstream)
	if err != nil {
		return nil, err
	}
	if conf.Logger == nil {
		conf.Logger = slog.Default()
	}
	g := &Gateway{
		conf: conf, upstream: up, pseudonym: newPseudonym(),
		caps: &tailfin.Capabilities{UnsupportedFor: unsupportedFor},
	}
	g.maxBody.Store(conf.MaxBody)
	g.breaker = &tailfin.Breaker{
		Failures: conf.BreakerFailures, OpenFor: g.openFor(),
		OnChange: func(authority string, from, to gobreaker.State) {
			conf.Logger.Warn("circuit of the upstream changed", "upstream", authority, "from", from.String(), "to", to.String())
		},
	}
	g.replay = &tailfin.Replay{Next: g.transport(), PerRequest: conf.ReplayPerRequest, Total: conf.ReplayTotal}
	g.proxy = &httputil.ReverseProxy{
		Rewrite:        g.rewrite,
		Transport:      roundTripper(g.roundTrip),
		FlushInterval:  -1, // each piece at once: the client may wait for it
		ErrorLog:       log.New(io.Discard, "", 0),
		BufferPool:     copyBuffers{},
		ModifyResponse: g.modifyResponse,
		ErrorHandler:   g.fail,
	}
	if g.metrics, err = newMetrics(conf.Registerer, g); err != nil {
		_ = g.Close()
		return nil, err
	}
	return g, nil
}

func (g *Gateway) openFor() time.Duration { return cmp.Or(g.conf.BreakerOpenFor, defaultOpenFor) }

// transport makes the way to the upstream.
func (g *Gateway) transport() http.RoundTripper {
	if g.upstream.scheme != schemeHTTP {
		g.http3 = g.conf.newHTTP3()
	}
	if g.upstream.scheme != schemeHTTP3 {
		g.tcp = g.conf.newTCP()
	}
	switch g.upstream.scheme {
	case schemeHTTP:
		return g.tcp
	case schemeHTTP3:
		return g.http3
	}
	return &tailfin.Fallback{
		HTTP3: g.http3, Next: roundTripper(g.overTCP), Capabilities: g.caps, TryUnknown: true,
	}
}

// overTCP counts the requests that changed over.
func (g *Gateway) overTCP(req *http.Request) (*http.Response, error) {
	if x := exchangeOf(req.Context()); x != nil && x.asked.Load() > 0 {
		g.metrics.fallbacks.Inc()
	}
	return g.tcp.RoundTrip(req)
}

// Check tells whether the gateway would send a request now: nil, or a
// *sink.UnavailableError while the circuit is open.
func (g *Gateway) Check(context.Context) error {
	if g.breaker.State(g.upstream.authority()) != gobreaker.StateOpen {
		return nil
	}
	return &sink.UnavailableError{Sink: g.conf.Upstream, Err: errors.New("its circuit is open after failures in a row")}
}

// DrainStats says what was saved at closes by the upstream.
func (g *Gateway) DrainStats() tailfin.DrainStats {
	if g.http3 == nil {
		return tailfin.DrainStats{}
	}
	return g.http3.DrainStats()
}

// SetMaxBody bounds the bodies of later requests in place of Config.MaxBody.
func (g *Gateway) SetMaxBody(n int64) { g.maxBody.Store(n) }

// Close closes the connections to the upstream. Requests at work over HTTP/3 fail;
// the others keep their connections until they end.
func (g *Gateway) Close() error {
	if g.tcp != nil {
		g.tcp.CloseIdleConnections()
	}
	if g.http3 != nil {
		return g.http3.Close()
	}
	return nil
}

// A roundTripper is an http.RoundTripper made of a function.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// copyBuffer is how much of a response is copied at a time, in bytes.
const copyBuffer = 32 << 10

// copyBuffers are ReverseProxy's.
type copyBuffers struct{}

var bufferPool = sync.Pool{New: func() any { return new([copyBuffer]byte) }}

func (copyBuffers) Get() []byte {
	b, _ := bufferPool.Get().(*[copyBuffer]byte)
	return b[:]
}

func (copyBuffers) Put(b []byte) {
	if len(b) == copyBuffer {
		bufferPool.Put((*[copyBuffer]byte)(b))
	}
}
