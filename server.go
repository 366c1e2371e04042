package tailfin

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"

	"github.com/tailfin-quic/tailfin/udp"
)

// NextProto is the ALPN token of HTTP/3 (RFC 9114 §3.1).
const NextProto = "h3"

// defaultMaxHeaderBytes bounds a field section, like http.DefaultMaxHeaderBytes
// but counted as RFC 9114 §4.2.2 does: 32 bytes more a field.
const defaultMaxHeaderBytes = 1 << 20

// A Server answers HTTP/3 requests with an http.Handler, and hands the handler
// every byte that QUIC received, whatever the client does after sending it.
//
// The context of a request ends when the client cancels it, or when the
// connection closes before the whole request has arrived. A request that has
// arrived whole keeps its context when the client leaves: its handler may
// finish, though no answer can be sent.
type Server struct {
	// Addr is the UDP address to listen on, host:port. Empty means ":443".
	Addr string
	// Handler answers the requests. Nil means http.DefaultServeMux. Requests share
	// goroutines, one after the other and also those of different clients: a handler
	// undoes what it does to its own (runtime.LockOSThread, pprof.SetGoroutineLabels),
	// or ends it by runtime.Goexit, which resets the stream.
	Handler http.Handler
	// TLSConfig must have a certificate. Serve adds the ALPN token, also to what its
	// GetConfigForClient returns.
	TLSConfig *tls.Config
	// QUICConfig is used as it is, but for a tracer put before its own, for an
	// InitialPacketSize of zero, which is 1200 here since each path carries that, and for
	// its receive windows. If it leaves both initial ones at zero, they are such that
	// requests whose handlers do not read yet leave credit to the others: the
	// connection's has room for MaxRequestsPerConn of the stream's, up to 1,536 requests.
	// A connection can make that much be kept in memory: 15 MiB at 100 requests and, beyond
	// 180, 85 KiB for each, up to 128 MiB. MaxConnectionReceiveWindow is kept to, if set.
	QUICConfig *quic.Config
	// ListenOptions are given to udp.Listen by ListenAndServe.
	ListenOptions []udp.Option
	// MaxHeaderBytes bounds the field section of a request, counted as RFC 9114
	// §4.2.2 does. Zero means 1 MiB.
	MaxHeaderBytes int
	// EnableExtendedConnect announces extended CONNECT (RFC 9220). Such a request
	// reaches the handler with Method CONNECT and the protocol in Proto. After an
	// answer of 2xx the request's Body and the ResponseWriter are the two
	// directions of the tunnel. A plain CONNECT reaches the handler always.
	EnableExtendedConnect bool
	// EnableDatagrams announces HTTP datagrams (RFC 9297), and QUIC's below them.
	// DatagramsOf finds those of a request at its ResponseWriter.
	EnableDatagrams bool
	// EarlyData decides which requests may run before the handshake is complete, if
	// QUICConfig.Allow0RTT is set: anyone who has seen such a request can send it
	// again (RFC 8470 §3). Those with a safe method (GET, HEAD, OPTIONS, TRACE) run
	// at once in any case; the others run at once if EarlyData says so, and else
	// wait for the handshake. Until then Request.TLS.HandshakeComplete is false.
	EarlyData func(r *http.Request) bool
	// AdditionalSettings go into our SETTINGS (RFC 9114 §7.2.4), ID to value, for
	// extensions. Settings that this package knows are left out.
	AdditionalSettings map[uint64]uint64
	// ConnContext may change the context of a new connection, which ends with it.
	// ctx has ServerContextKey, http.LocalAddrContextKey and RemoteAddrContextKey.
	// The contexts of requests have its values, and not its end. A nil result
	// refuses the connection with H3_INTERNAL_ERROR.
	ConnContext func(ctx context.Context, c *quic.Conn) context.Context
	// Port is what SetAltSvcHeader announces, if not zero, in place of the ports
	// listened on: those of a firewall in front, for example.
	Port int

	// In each of these limits zero is a default and a negative value is no limit.

	// MaxConns bounds the connections open at once. Those beyond it are refused
	// with the QUIC code CONNECTION_REFUSED, or with H3_EXCESSIVE_LOAD if they had
	// begun their handshake before. Zero means DefaultMaxConns.
	MaxConns int
	// MaxConnsPerAddr bounds, in the same way, those from one IPv4 address or one
	// IPv6 /64. Zero means DefaultMaxConnsPerAddr.
	MaxConnsPerAddr int
	// MaxHandshakes bounds the handshakes under way at once; connections beyond it are
	// refused with CONNECTION_REFUSED. From half of it on clients must prove their
	// address by a Retry, and none may have more than an eighth of it from one IPv4
	// address or one IPv6 /64. Zero means DefaultMaxHandshakes. With DisableDrain
	// handshakes are not counted.
	MaxHandshakes int
	// MaxRequestsPerConn bounds the requests at work at once on one connection: it
	// is quic.Config.MaxIncomingStreams. Zero leaves that as it is in QUICConfig.
	// A negative value means 65,536.
	MaxRequestsPerConn int
	// MaxResets bounds the requests on one connection that its client resets
	// unanswered, that are malformed, or whose header section is above MaxHeaderBytes,
	// beyond those answered, within LimitWindow. More close the connection with
	// H3_EXCESSIVE_LOAD. Zero means DefaultMaxResets.
	MaxResets int
	// MaxUselessFrames bounds the frames on one connection that bring nothing, beyond
	// the requests answered, within LimitWindow. Of HTTP/3 these are all on the control
	// stream, unknown and empty ones, and streams of unknown type; of QUIC changes of
	// connection IDs, PATH_CHALLENGE, STREAM without bytes, and what says the same again
	// within a packet, such as PING. More close the connection with H3_EXCESSIVE_LOAD.
	// Zero means DefaultMaxUselessFrames.
	MaxUselessFrames int

	// ReadHeaderTimeout bounds the time from a request's first byte to its whole
	// header section. The stream is reset with H3_REQUEST_REJECTED then. Zero means
	// DefaultReadHeaderTimeout, a negative value means any time.
	ReadHeaderTimeout time.Duration
	// BodyIdleTimeout bounds how long a handler waits for the next byte of a request
	// body. Reads fail then for good, with an error that matches
	// os.ErrDeadlineExceeded, and the client is told to stop. Zero means any time.
	// It does not hold for CONNECT.
	BodyIdleTimeout time.Duration
	// RequestTimeout bounds a whole request, from its first byte to the last of the
	// answer. Its context ends then with context.DeadlineExceeded, and the stream is
	// reset with H3_REQUEST_CANCELLED. Zero means any time. It does not hold for
	// CONNECT.
	RequestTimeout time.Duration
	// IdleTimeout bounds the time without a request at work on a connection, after
	// which it gets a GOAWAY and is closed with H3_NO_ERROR. Zero means any time:
	// only quic.Config.MaxIdleTimeout, for the silence of a client, holds then.
	IdleTimeout time.Duration

	// DisableDrain leaves quic-go as it is: received bytes that were not read
	// yet are lost at a close. It is there to show the difference.
	DisableDrain bool
	// DrainTimeout bounds one drain. Zero means DefaultDrainTimeout.
	DrainTimeout time.Duration
	// ReadAhead is how many bytes of each stream are read as they arrive, before
	// anyone asks for them, and so survive any end of the connection, also one that
	// we make since the peer broke QUIC. Each byte is copied once more for it, and
	// flow control lets a peer send as much more. Zero reads nothing ahead.
	ReadAhead int
	// Logger gets errors of handlers and of peers. Nil means slog.Default.
	Logger *slog.Logger

	counters drainCounters
	dropped  droppedPackets
	stats    serverCounters
	limits   connLimits
	workers  workers

	handshakes handshakes
	refusedLog refusedLog

	mu        sync.Mutex
	conns     map[*serverConn]struct{}
	orphans   map[*serverConn]struct{} // over, with handlers that are not
	listeners map[quicListener]struct{}
	stopping  bool
	accepting sync.WaitGroup // Serve calls that may still add to conns
	serving   sync.WaitGroup // Serve calls that still use their socket
}

// DrainStats says what the drain barrier has done since the server was made.
func (s *Server) DrainStats() DrainStats { return s.counters.snapshot() }

// DroppedPackets is the number of packets that belonged to no connection and
// were no acceptable start of one: garbage, strays and noise. On a socket that is no
// udp.Conn, or with DisableDrain, datagrams that are no QUIC at all are not among them.
func (s *Server) DroppedPackets() uint64 { return s.dropped.n.Load() }

// PacketTracer is for the Tracer of a quic.Transport of your own that is given to
// ServeTransport: DroppedPackets counts what that drops too then.
func (s *Server) PacketTracer() qlogwriter.Recorder { return &s.dropped }

// droppedPackets counts what a quic.Transport drops, and what quic-go (v0.65.0) drops
// without telling: see resetGuard.
type droppedPackets struct{ n atomic.Uint64 }

var _ qlogwriter.Recorder = (*droppedPackets)(nil)

func (d *droppedPackets) RecordEvent(ev qlogwriter.Event) {
	if _, ok := ev.(qlog.PacketDropped); ok {
		d.n.Add(1)
	}
}

func (d *droppedPackets) Close() error { return nil }

func (s *Server) drain() drainOptions {
	return drainOptions{disabled: s.DisableDrain, timeout: s.DrainTimeout, readAhead: s.ReadAhead, counters: &s.counters, dropped: &s.stats.packetsDropped}
}

func (s *Server) logger() *slog.Logger {
	if s.Logger != nil {
		return s.Logger
	}
	return slog.Default()
}

func (s *Server) handler() http.Handler {
	if s.Handler != nil {
		return s.Handler
	}
	return http.DefaultServeMux
}

func (s *Server) maxHeaderBytes() int {
	if s.MaxHeaderBytes > 0 {
		return s.MaxHeaderBytes
	}
	return defaultMaxHeaderBytes
}
