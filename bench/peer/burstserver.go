package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// A BurstServer is what a Burst is, for many connections: it answers the first request
// of each as an XNetServer does, and closes in the very packet or batch of the answer, or
// plays what it is told to.
type BurstServer struct {
	answer  func(ctx context.Context, conn *quic.Conn, b *burstConn) error
	socket  *mutingSocket
	tr      *quic.Transport
	ln      *quic.Listener
	stop    context.CancelFunc
	wg      sync.WaitGroup
	sent    atomic.Int64
	failure atomic.Pointer[error]
}

// ListenBursts starts a server.
func ListenBursts(addr string, cert tls.Certificate, end Close) (*BurstServer, error) {
	return listenBursts(addr, cert, func(ctx context.Context, conn *quic.Conn, b *burstConn) error {
		return answerOne(ctx, conn, b, end)
	})
}

func listenBursts(addr string, cert tls.Certificate, answer func(context.Context, *quic.Conn, *burstConn) error) (*BurstServer, error) {
	at, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, err
	}
	conn, err := net.ListenUDP("udp", at)
	if err != nil {
		return nil, err
	}
	s := &BurstServer{answer: answer, socket: &mutingSocket{UDPConn: conn, muted: make(map[string]struct{})}}
	s.tr = &quic.Transport{Conn: packetConn{s.socket, conn}, ConnContext: func(ctx context.Context, _ *quic.ClientInfo) (context.Context, error) {
		return context.WithValue(ctx, burstConnKey{}, &burstConn{socket: s.socket, events: connEvents{confirmed: make(chan struct{})}}), nil
	}}
	conf := &tls.Config{
		Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{alpn},
		SessionTicketsDisabled: true,
	}
	conf.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		own := conf.Clone()
		own.GetConfigForClient = nil
		if b, ok := hello.Context().Value(burstConnKey{}).(*burstConn); ok {
			own.KeyLogWriter = &b.keyLog
		}
		return own, nil
	}
	s.ln, err = s.tr.Listen(conf, &quic.Config{Tracer: func(ctx context.Context, _ bool, _ quic.ConnectionID) qlogwriter.Trace {
		b, ok := ctx.Value(burstConnKey{}).(*burstConn)
		if !ok {
			return nil
		}
		return b
	}})
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.wg.Go(func() {
		for {
			conn, err := s.ln.Accept(ctx)
			if err != nil {
				return
			}
			s.wg.Go(func() {
				if err := s.serve(ctx, conn); err != nil {
					s.failure.CompareAndSwap(nil, &err)
					return
				}
				s.sent.Add(1)
			})
		}
	})
	return s, nil
}

// Addr is the address that clients dial.
func (s *BurstServer) Addr() string { return s.socket.LocalAddr().String() }

// Close stops the server. It returns how many answers were sent, each with its close,
// and the first reason why one was not.
func (s *BurstServer) Close() (sent int, failure error) {
	s.stop()
	_ = s.ln.Close()
	s.wg.Wait()
	_ = s.tr.Close()
	_ = s.socket.Close()
	if err := s.failure.Load(); err != nil {
		failure = *err
	}
	return int(s.sent.Load()), failure
}

func (s *BurstServer) serve(ctx context.Context, conn *quic.Conn) error {
	// Off the wire, it is quic-go alone that hears of this.
	defer func() { _ = conn.CloseWithError(quic.ApplicationErrorCode(h3frame.ErrCodeNoError), "") }()
	b, ok := conn.Context().Value(burstConnKey{}).(*burstConn)
	if !ok {
		return errors.New("the connection has no key log")
	}
	if err := (&Burst{conn: conn}).settings(); err != nil {
		return err
	}
	return s.answer(ctx, conn, b)
}

// answerOne reads a request, and sends its answer and the close.
func answerOne(ctx context.Context, conn *quic.Conn, b *burstConn, end Close) error {
	str, err := conn.AcceptStream(ctx)
	if err != nil {
		return err
	}
	head, body, err := readRequest(str)
	if err != nil {
		return err
	}
	answer, err := response(head, body)
	if err != nil {
		return err
	}
	l, err := b.lastWords(conn)
	if err != nil {
		return err
	}
	return l.send([]Message{{int64(str.StreamID()), answer}}, end)
}

// burstConnKey is where the context of a connection has its burstConn.
type burstConnKey struct{}

// A burstConn is what a BurstServer must know of a connection to go on in quic-go's
// place. It is the connection's trace.
type burstConn struct {
	keyLog keyLog
	events connEvents
	socket *mutingSocket

	mu    sync.Mutex
	dcid  []byte // of the last packet
	muted bool
}

func (b *burstConn) AddProducer() qlogwriter.Recorder { return b }
func (b *burstConn) SupportsSchemas(string) bool      { return true }
func (b *burstConn) Close() error                     { return nil }

// RecordEvent notes the destination of each packet. quic-go (v0.65.0) tells of a packet
// before it writes it.
func (b *burstConn) RecordEvent(ev qlogwriter.Event) {
	if sent, ok := ev.(qlog.PacketSent); ok {
		b.mu.Lock()
		b.dcid = sent.Header.DestConnectionID.Bytes()
		if b.muted {
			b.socket.mute(b.dcid)
		}
		b.mu.Unlock()
		return
	}
	b.events.RecordEvent(ev)
}

// lastWords takes the connection off the wire.
func (b *burstConn) lastWords(conn *quic.Conn) (*lastWords, error) {
	to, ok := conn.RemoteAddr().(*net.UDPAddr)
	if !ok {
		return nil, errors.New("the client has no UDP address")
	}
	secret, err := b.keyLog.secret(serverSecret)
	if err != nil {
		return nil, err
	}
	dcid := b.mute()
	keys, err := newPacketKeys(conn.ConnectionState().TLS.CipherSuite, secret, b.events.phase.Load())
	if err != nil {
		return nil, err
	}
	return &lastWords{b.socket.UDPConn, to, dcid, keys}, nil
}

// mute takes quic-go's connection off the wire, and returns where its packets went.
func (b *burstConn) mute() (dcid []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.muted = true
	b.socket.mute(b.dcid)
	return b.dcid
}

// A mutingSocket drops what quic-go writes to connections that were taken off the wire.
type mutingSocket struct {
	*net.UDPConn

	mu    sync.RWMutex
	muted map[string]struct{} // connection IDs of clients
	idLen int                 // of them
}

// packetConn hides what else a socket has, so that quic-go (v0.65.0) writes one packet at
// a time by WriteTo. What it does to the socket's buffers passes.
type packetConn struct {
	net.PacketConn

	udp *net.UDPConn
}

func (c packetConn) SyscallConn() (syscall.RawConn, error) { return c.udp.SyscallConn() }
func (c packetConn) SetReadBuffer(n int) error             { return c.udp.SetReadBuffer(n) }
func (c packetConn) SetWriteBuffer(n int) error            { return c.udp.SetWriteBuffer(n) }

func (s *mutingSocket) mute(dcid []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.muted[string(dcid)] = struct{}{}
	s.idLen = len(dcid)
}

// WriteTo sends a datagram, unless its connection is muted. Only short headers matter:
// a connection that has had a request is past the others.
func (s *mutingSocket) WriteTo(p []byte, addr net.Addr) (int, error) {
	s.mu.RLock()
	_, muted := s.muted[string(p[min(shortDCIDPos, len(p)):min(shortDCIDPos+s.idLen, len(p))])]
	s.mu.RUnlock()
	if muted && p[0]&longForm == 0 {
		return len(p), nil
	}
	return s.UDPConn.WriteTo(p, addr)
}
