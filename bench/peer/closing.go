package peer

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// ClosingOptions says how a ClosingServer leaves.
type ClosingOptions struct {
	// Addr is where to listen; empty for a loopback address.
	Addr string
	// Delay is the time between the packing of the FIN and the close.
	Delay time.Duration
	// GoAway sends a GOAWAY frame before the answer.
	GoAway bool
}

// A ClosingServer is a quic-go server that answers the first request of a connection
// as an XNetServer does, and closes the connection with H3_NO_ERROR.
type ClosingServer struct {
	opts   ClosingOptions
	socket *net.UDPConn
	tr     *quic.Transport
	ln     *quic.Listener
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

// ListenClosing starts a server.
func ListenClosing(cert tls.Certificate, opts ClosingOptions) (*ClosingServer, error) {
	at := &net.UDPAddr{IP: loopback}
	if opts.Addr != "" {
		var err error
		if at, err = net.ResolveUDPAddr("udp", opts.Addr); err != nil {
			return nil, err
		}
	}
	socket, err := net.ListenUDP("udp", at)
	if err != nil {
		return nil, err
	}
	s := &ClosingServer{opts: opts, socket: socket, tr: &quic.Transport{Conn: socket}}
	tlsConf := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{"h3"}}
	s.ln, err = s.tr.Listen(tlsConf, &quic.Config{
		Tracer: func(context.Context, bool, quic.ConnectionID) qlogwriter.Trace {
			return &finTrace{sent: make(chan struct{})}
		},
	})
	if err != nil {
		_ = socket.Close()
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
			s.wg.Go(func() { s.serve(ctx, conn) })
		}
	})
	return s, nil
}

// Addr is the address that clients dial.
func (s *ClosingServer) Addr() string { return s.ln.Addr().String() }

// Close stops the server at once.
func (s *ClosingServer) Close() error {
	s.stop()
	_ = s.ln.Close()
	s.wg.Wait()
	_ = s.tr.Close()
	return s.socket.Close()
}

func (s *ClosingServer) serve(ctx context.Context, conn *quic.Conn) {
	defer func() { _ = conn.CloseWithError(quic.ApplicationErrorCode(h3frame.ErrCodeNoError), "") }()
	control, err := conn.OpenUniStream()
	if err != nil {
		return
	}
	_, _ = control.Write(h3frame.AppendSettings(h3frame.AppendStreamType(nil, h3frame.StreamControl), h3frame.Settings{}))
	str, err := conn.AcceptStream(ctx)
	if err != nil {
		return
	}
	head, sent, err := readRequest(str)
	if err != nil {
		return
	}
	msg, err := response(head, sent)
	if err != nil {
		return
	}
	if s.opts.GoAway {
		_, _ = control.Write(h3frame.AppendGoAway(nil, uint64(str.StreamID())+4))
	}
	_, _ = str.Write(msg)
	_ = str.Close()
	if trace, ok := conn.QlogTrace().(*finTrace); ok {
		select {
		case <-trace.sent: // quic-go (v0.65.0) forgets at a close what it has not sent yet
		case <-conn.Context().Done():
		}
	}
	time.Sleep(s.opts.Delay)
}

// A finTrace tells when the FIN of a request stream was packed: it is quic-go's
// tracer of one connection.
type finTrace struct {
	once sync.Once
	sent chan struct{}
}

func (f *finTrace) AddProducer() qlogwriter.Recorder { return f }
func (f *finTrace) SupportsSchemas(string) bool      { return true }
func (f *finTrace) Close() error                     { return nil }

// RecordEvent looks for the FIN.
func (f *finTrace) RecordEvent(ev qlogwriter.Event) {
	packet, ok := ev.(qlog.PacketSent)
	if !ok {
		return
	}
	for _, frame := range packet.Frames {
		if s, ok := frame.Frame.(*qlog.StreamFrame); ok && s.Fin && s.StreamID%4 == 0 {
			f.once.Do(func() { close(f.sent) })
		}
	}
}
