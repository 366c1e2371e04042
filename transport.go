package tailfin

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/udp"
)

// DefaultDialTimeout bounds the making of a connection, name resolution and
// all addresses together.
const DefaultDialTimeout = 10 * time.Second

// A Transport sends requests over HTTP/3. It is an http.RoundTripper that
// delivers every answer QUIC has received, also from a peer that closes the
// connection right behind it. Its zero value is ready to use; it is safe for
// concurrent use and must not be copied.
//
// Connections are kept and shared by authority. A request is sent again by
// itself only if the peer cannot have acted on it (Progress.RetrySafe) and its
// body can be had again: nobody has read it yet, or there is a GetBody.
//
// The hooks of net/http/httptrace are called as http.Transport calls them. QUIC
// makes a connection and its TLS session in one, so that ConnectStart and
// TLSHandshakeStart come together, as do their ends. What GotConn gets as the
// connection has a method ConnectionStats() quic.ConnectionStats.
type Transport struct {
	// TLSClientConfig is cloned; the ALPN token and, if empty, ServerName are set.
	TLSClientConfig *tls.Config
	// QUICConfig is used as it is, but for a tracer put before its own, and for an
	// InitialPacketSize of zero, which is 1200 here since each path carries that.
	QUICConfig *quic.Config
	// ListenOptions are given to udp.Listen for the socket all connections share.
	ListenOptions []udp.Option
	// Resolver looks names up. Nil means net.DefaultResolver.
	Resolver Resolver
	// Dial makes the connection to addr, host:port, in place of this package. It
	// must use both configurations as they are: tlsConf has the ALPN token,
	// quicConf the tracer of the drain. Resolver and ListenOptions are not used then.
	Dial func(ctx context.Context, addr string, tlsConf *tls.Config, quicConf *quic.Config) (*quic.Conn, error)
	// DialTimeout bounds the making of a connection. Zero means DefaultDialTimeout.
	DialTimeout time.Duration
	// MaxConnsPerHost bounds the connections to one authority. A further one is
	// made only while the peer allows no more streams on those there are; at the
	// bound a request waits for a stream, until its context ends. Zero means 1.
	MaxConnsPerHost int
	// IdleConnTimeout is how long a connection without a request is kept. Zero
	// leaves it to QUIC's own idle timeout (quic.Config.MaxIdleTimeout).
	IdleConnTimeout time.Duration
	// ResponseHeaderTimeout bounds the wait for the final header section of a
	// response, from when the request was handed to QUIC whole. Zero means no bound.
	ResponseHeaderTimeout time.Duration
	// ExpectContinueTimeout is how long a request with "Expect: 100-continue"
	// waits for leave to send its body. Zero means that it does not wait.
	ExpectContinueTimeout time.Duration
	// MaxResponseHeaderBytes bounds the field section of a response, counted
	// as RFC 9114 §4.2.2 does. Zero means 1 MiB.
	MaxResponseHeaderBytes int
	// DisableCompression keeps from asking for gzip, and from undoing it. As in
	// http.Transport, gzip is asked for if the request has neither
	// Accept-Encoding nor Range and is no HEAD.
	DisableCompression bool
	// EarlyData sends requests of safe methods and without a body in QUIC's 0-RTT
	// packets, to a peer whose session TLSClientConfig.ClientSessionCache has.
	// An attacker can replay them (RFC 8470 §2).
	EarlyData bool
	// RetryIdempotent also sends a request again whose connection ended before
	// any of the response came, if its method is idempotent (RFC 9110 §9.2.2) or
	// it has an Idempotency-Key, and the peer closed the connection gracefully. The
	// peer may have acted on it.
	RetryIdempotent bool
	// LearnCloses learns which authorities close a connection with H3_NO_ERROR behind
	// an answer, without a GOAWAY ahead, and after how many answers: a connection gets
	// no more requests than that, since those that meet the close would be lost.
	// Until the first connection to an authority has outlived its answer by a
	// second each carries one request. MaxConnsPerHost should allow for that: at
	// the bound requests wait for their turn.
	LearnCloses bool
	// DisableDrain leaves quic-go as it is: received bytes that were not read
	// yet are lost at a close, and a request that never left cannot be told from
	// one that did. It is there to show the difference.
	DisableDrain bool
	// DrainTimeout bounds one drain. Zero means DefaultDrainTimeout.
	DrainTimeout time.Duration
	// ReadAhead is how many bytes of each stream are read as they arrive, before
	// anyone asks for them, and so survive any end of the connection, also one that
	// we make since the peer broke QUIC. Each byte is copied once more for it, and
	// flow control lets a peer send as much more. Zero reads nothing ahead.
	ReadAhead int
	// Logger gets violations of HTTP/3 by peers. Nil means slog.Default.
	Logger *slog.Logger

	counters drainCounters
	sessions sessionSettings
	habits   closeHabits

	mu      sync.Mutex
	closed  bool
	socket  *udp.Conn
	quic    *quic.Transport
	guard   *resetGuard
	hosts   map[string]*hostPool
	conns   map[*clientConn]struct{} // all that are open, pooled or not
	dialing context.Context          // ends at Close
	stop    context.CancelFunc
}

var (
	_ http.RoundTripper = (*Transport)(nil)
	_ io.Closer         = (*Transport)(nil)
)

// transport returns the quic.Transport of all connections, made at first use.
func (t *Transport) transport() (*quic.Transport, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, ErrTransportClosed
	}
	if t.quic == nil {
		socket, err := udp.Listen("udp", ":0", t.ListenOptions...)
		if err != nil {
			return nil, err
		}
		t.socket, t.quic, t.guard = socket, &quic.Transport{Conn: socket}, guardResets(socket, nil)
	}
	return t.quic, nil
}

// resets is the guard of the socket, nil without one.
func (t *Transport) resets() *resetGuard {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.guard
}

// DrainStats says what the drain barrier has done since the transport was made.
func (t *Transport) DrainStats() DrainStats { return t.counters.snapshot() }

func (t *Transport) drain() drainOptions {
	return drainOptions{disabled: t.DisableDrain, timeout: t.DrainTimeout, readAhead: t.ReadAhead, counters: &t.counters}
}

func (t *Transport) logger() *slog.Logger {
	if t.Logger != nil {
		return t.Logger
	}
	return slog.Default()
}

func (t *Transport) maxHeaderBytes() int {
	if t.MaxResponseHeaderBytes > 0 {
		return t.MaxResponseHeaderBytes
	}
	return defaultMaxHeaderBytes
}

// Close closes every connection with H3_NO_ERROR and the socket. Requests at
// work fail; later ones return ErrTransportClosed.
func (t *Transport) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	if t.stop != nil {
		t.stop()
	}
	conns := slices.Collect(maps.Keys(t.conns))
	socket, tr := t.socket, t.quic
	for _, h := range t.hosts {
		h.roomMade()
	}
	t.hosts = nil
	t.mu.Unlock()

	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() { c.close() })
	}
	wg.Wait()
	if tr == nil {
		return nil
	}
	err := tr.Close()
	if cerr := socket.Close(); err == nil {
		err = cerr
	}
	return err
}

// Backend returns how the transport's socket is read, udp.Auto before the
// first connection.
func (t *Transport) Backend() udp.Backend {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.socket == nil {
		return udp.Auto
	}
	return t.socket.Backend()
}

// GRO tells whether the kernel may hand trains of datagrams to the transport's
// socket. It is false before the first connection.
func (t *Transport) GRO() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.socket != nil && t.socket.GRO()
}
