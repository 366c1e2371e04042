package tailfin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
	"github.com/tailfin-quic/tailfin/udp"
)

var errNoTLSConfig = errors.New("tailfin: Server.TLSConfig is nil; HTTP/3 needs a certificate")

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
// udp.Listen serves it best. One Server may serve several at once.
func (s *Server) Serve(conn net.PacketConn) error {
	tr := &quic.Transport{Conn: conn, Tracer: s.PacketTracer(), VerifySourceAddress: s.VerifySourceAddress}
	defer func() { _ = tr.Close() }()
	return s.ServeTransport(tr)
}

// ServeTransport is Serve on a quic.Transport of your own, which may have a
// ConnectionIDGenerator, as the shards of package udp need, or a StatelessResetKey,
// or be used to dial as well. On a udp.Conn it uses its Inspect. It does not close tr, but returns only once the
// connections that it has accepted are over.
func (s *Server) ServeTransport(tr *quic.Transport) error {
	if s.TLSConfig == nil {
		return errNoTLSConfig
	}
	guard := s.guardResets(tr.Conn)
	defer guard.remove()
	ln, err := s.listen(tr, guard)
	if err != nil {
		return fmt.Errorf("tailfin: listen on %s: %w", tr.Conn.LocalAddr(), err)
	}
	if !s.track(ln) {
		_ = ln.Close()
		return ErrServerClosed
	}
	defer s.serving.Done()
	defer s.waitConns(tr) // they outlive their listener, but not the transport
	for {
		qc, err := ln.Accept(context.Background())
		if err != nil {
			s.untrack(ln)
			s.accepting.Done()
			if s.isStopping() {
				return ErrServerClosed
			}
			return fmt.Errorf("tailfin: accept on %s: %w", tr.Conn.LocalAddr(), err)
		}
		c := newServerConn(s, tr, qc)
		s.trackConn(c)
		go c.serve()
	}
}

// ListenConfig returns TLSConfig and QUICConfig with what this server needs of
// them, for a listener of your own whose connections go to ServeConn. Without that
// QUIC configuration there is no drain barrier under a connection.
func (s *Server) ListenConfig() (*tls.Config, *quic.Config, error) {
	if s.TLSConfig == nil {
		return nil, nil, errNoTLSConfig
	}
	return s.tlsConfig(s.TLSConfig), s.quicConfig(nil), nil
}

// ServeConn answers requests on one connection until it is over. It returns nil for
// a connection that either side closed with H3_NO_ERROR, else one of this package's
// errors. Shutdown and Close see to it as to all others; once they were called
// ServeConn leaves conn alone and returns ErrServerClosed.
func (s *Server) ServeConn(conn *quic.Conn) error {
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		return ErrServerClosed
	}
	s.init()
	s.accepting.Add(1)
	s.mu.Unlock()
	c := newServerConn(s, nil, conn)
	s.trackConn(c)
	s.accepting.Done()
	c.serve()
	<-conn.Context().Done() // quic-go (v0.65.0) ends the streams before the context
	err := context.Cause(conn.Context())
	var closed *quic.ApplicationError
	if errors.As(err, &closed) && h3frame.ErrorCode(closed.ErrorCode) == h3frame.ErrCodeNoError {
		return nil
	}
	return classify(err, Progress{})
}

// A quicListener is a *quic.Listener or a *quic.EarlyListener.
type quicListener interface {
	Accept(context.Context) (*quic.Conn, error)
	Addr() net.Addr
	Close() error
}

// guardResets has stateless resets wait for their connection's drain, where there
// are drains.
func (s *Server) guardResets(conn net.PacketConn) *resetGuard {
	if s.DisableDrain {
		return nil
	}
	return guardResets(conn, &s.dropped)
}

// listen listens for connections; with 0-RTT before their handshake is complete.
func (s *Server) listen(tr *quic.Transport, guard *resetGuard) (quicListener, error) {
	tlsConf, quicConf := s.tlsConfig(s.TLSConfig), s.quicConfig(guard)
	if quicConf.Allow0RTT {
		return tr.ListenEarly(tlsConf, quicConf)
	}
	return tr.Listen(tlsConf, quicConf)
}
