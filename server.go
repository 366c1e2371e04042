package tailfin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"

	"github.com/tailfin-quic/tailfin/h3frame"
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
	// Handler answers the requests. Nil means http.DefaultServeMux.
	Handler http.Handler
	// TLSConfig must have a certificate. Serve adds the ALPN token.
	TLSConfig *tls.Config
	// QUICConfig is used as it is, but for a tracer put before its own.
	QUICConfig *quic.Config
	// ListenOptions are given to udp.Listen by ListenAndServe.
	ListenOptions []udp.Option
	// MaxHeaderBytes bounds the field section of a request, counted as RFC 9114
	// §4.2.2 does. Zero means 1 MiB.
	MaxHeaderBytes int
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

	mu        sync.Mutex
	conns     map[*serverConn]struct{}
	listeners map[*quic.Listener]struct{}
	stopping  bool
	accepting sync.WaitGroup // Serve calls that may still add to conns
	serving   sync.WaitGroup // Serve calls that still use their socket
}

// ListenAndServe listens on Addr through package udp and serves until
// Shutdown or Close. It always returns a non-nil error.
func (s *Server) ListenAndServe() error {
	addr := s.Addr
	if addr == "" {
		addr = ":443"
	}
	conn, err := udp.Listen("udp", addr, s.ListenOptions...)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return s.Serve(conn)
}

// Serve answers requests that arrive on conn until Shutdown or Close, which
// make it return ErrServerClosed. It does not close conn, and a conn from
// udp.Listen serves it best.
func (s *Server) Serve(conn net.PacketConn) error {
	if s.TLSConfig == nil {
		return errors.New("tailfin: Server.TLSConfig is nil; HTTP/3 needs a certificate")
	}
	tlsConf := s.TLSConfig.Clone()
	tlsConf.NextProtos = []string{NextProto}
	tlsConf.MinVersion = max(tlsConf.MinVersion, tls.VersionTLS13)
	quicConf := s.QUICConfig
	if quicConf == nil {
		quicConf = &quic.Config{}
	}

	tr := &quic.Transport{Conn: conn, Tracer: &s.dropped}
	opts := s.drain()
	if !opts.disabled {
		opts.guard = guardResets(conn)
		defer opts.guard.remove()
	}
	ln, err := tr.Listen(tlsConf, opts.install(quicConf))
	if err != nil {
		return fmt.Errorf("tailfin: listen on %s: %w", conn.LocalAddr(), err)
	}
	if !s.track(ln) {
		_ = ln.Close()
		_ = tr.Close()
		return ErrServerClosed
	}
	defer s.serving.Done()
	defer func() {
		// Connections outlive their listener, but not the transport: it may
		// only go once they are done.
		s.waitConns(tr)
		_ = tr.Close()
	}()
	for {
		qc, err := ln.Accept(context.Background())
		if err != nil {
			s.untrack(ln)
			s.accepting.Done()
			if s.isStopping() {
				return ErrServerClosed
			}
			return fmt.Errorf("tailfin: accept on %s: %w", conn.LocalAddr(), err)
		}
		c := &serverConn{server: s, transport: tr, h3: newH3Conn(qc, false, s.drain(), s.logger()), done: make(chan struct{})}
		s.trackConn(c)
		go c.serve()
	}
}

// DrainStats says what the drain barrier has done since the server was made.
func (s *Server) DrainStats() DrainStats { return s.counters.snapshot() }

// DroppedPackets is the number of packets that belonged to no connection and
// were no acceptable start of one: garbage, strays and noise.
func (s *Server) DroppedPackets() uint64 { return s.dropped.n.Load() }

// droppedPackets counts what a quic.Transport drops.
type droppedPackets struct{ n atomic.Uint64 }

var _ qlogwriter.Recorder = (*droppedPackets)(nil)

func (d *droppedPackets) RecordEvent(ev qlogwriter.Event) {
	if _, ok := ev.(qlog.PacketDropped); ok {
		d.n.Add(1)
	}
}

func (d *droppedPackets) Close() error { return nil }

func (s *Server) drain() drainOptions {
	return drainOptions{disabled: s.DisableDrain, timeout: s.DrainTimeout, readAhead: s.ReadAhead, counters: &s.counters}
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

// track and its like keep the sets that Shutdown and Close work on.

func (s *Server) track(ln *quic.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return false
	}
	s.init()
	s.listeners[ln] = struct{}{}
	s.accepting.Add(1)
	s.serving.Add(1)
	return true
}

func (s *Server) untrack(ln *quic.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, ln)
}

func (s *Server) trackConn(c *serverConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
}

func (s *Server) untrackConn(c *serverConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	close(c.done)
}

// init makes the maps of a zero Server. The caller holds mu.
func (s *Server) init() {
	if s.conns == nil {
		s.conns = make(map[*serverConn]struct{})
		s.listeners = make(map[*quic.Listener]struct{})
	}
}

func (s *Server) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// openConns lists the connections of one transport, or of all for nil.
func (s *Server) openConns(tr *quic.Transport) []*serverConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*serverConn
	for c := range s.conns {
		if tr == nil || c.transport == tr {
			list = append(list, c)
		}
	}
	return list
}

func (s *Server) waitConns(tr *quic.Transport) {
	for _, c := range s.openConns(tr) {
		<-c.done
	}
}

// stop marks the server as stopping and closes its listeners.
func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	for ln := range s.listeners {
		_ = ln.Close()
	}
}

// Shutdown stops accepting connections, sends GOAWAY on each open one, waits
// until the requests at work are answered, leaves their clients a moment to
// close, and closes what is left with H3_NO_ERROR. If ctx ends first it closes
// at once and returns the context's error; handlers may still be running then.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	s.accepting.Wait() // quic-go first hands out what it has queued
	var wg sync.WaitGroup
	for _, c := range s.openConns(nil) {
		wg.Go(func() { c.shutdown(ctx) })
	}
	wg.Wait()
	s.closeConns()
	s.serving.Wait()
	return ctx.Err()
}

// Close stops the server at once and closes every connection with
// H3_NO_ERROR. Handlers may still be running when it returns.
func (s *Server) Close() error {
	s.stop()
	s.accepting.Wait()
	s.closeConns()
	s.serving.Wait()
	return nil
}

func (s *Server) closeConns() {
	var wg sync.WaitGroup
	for _, c := range s.openConns(nil) {
		wg.Go(func() { _ = c.h3.quic.CloseWithError(quic.ApplicationErrorCode(h3frame.ErrCodeNoError), "") })
	}
	wg.Wait()
}
