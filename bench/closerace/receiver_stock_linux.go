package closerace

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// A stockServer is quic-go/http3's, on a plain socket. It is served as http3.Server
// serves a listener, but so that its end can be waited for.
type stockServer struct {
	*tally
	socket   *net.UDPConn
	tr       *quic.Transport
	ln       *quic.Listener
	conns    sync.WaitGroup
	accepted atomic.Int64
	over     chan struct{} // closed when no more are accepted
}

func newStockServer(at netip.Addr, cert tls.Certificate, count *tally) (server, error) {
	socket, err := listen(at)
	if err != nil {
		return nil, err
	}
	s := &stockServer{tally: count, socket: socket, tr: &quic.Transport{Conn: socket}, over: make(chan struct{})}
	s.ln, err = s.tr.Listen(http3.ConfigureTLSConfig(serverTLS(cert)), count.wire.config(quicConfig()))
	if err != nil {
		_ = socket.Close()
		return nil, err
	}
	h3 := &http3.Server{
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { count.read(context.Background(), r.Body) }),
		Logger:  quiet(),
	}
	go func() {
		defer close(s.over)
		for {
			conn, err := s.ln.Accept(context.Background())
			if err != nil {
				return
			}
			s.accepted.Add(1)
			s.conns.Go(func() { _ = h3.ServeQUICConn(conn) })
		}
	}()
	return s, nil
}

func (s *stockServer) addr() string { return s.socket.LocalAddr().String() }

// acceptPatience is how long connections may take from being closed to being accepted.
const acceptPatience = time.Second

func (s *stockServer) end(ctx context.Context, sent int, o *outcome) error {
	s.wire.waitFor(ctx, sent)
	o.Drops = socketDrops()
	for start := time.Now(); int(s.accepted.Load()) < sent && time.Since(start) < acceptPatience; time.Sleep(time.Millisecond) {
	}
	_ = s.ln.Close()
	<-s.over
	s.conns.Wait() // http3 waits for handlers
	o.Backend = "msg"
	return errors.Join(s.tr.Close(), s.socket.Close())
}

// A stockClient is quic-go/http3's, on a plain socket.
type stockClient struct {
	*tally
	socket *net.UDPConn
	tr     *quic.Transport
	h3     *http3.Transport
	quic   *quic.Config
}

func newStockClient(at netip.Addr, count *tally) (client, error) {
	socket, err := listen(unspecified(at))
	if err != nil {
		return nil, err
	}
	return &stockClient{
		tally: count, socket: socket, tr: &quic.Transport{Conn: socket}, h3: &http3.Transport{Logger: quiet()},
		quic: count.wire.config(quicConfig()),
	}, nil
}

// unspecified is the address that a client listens on.
func unspecified(at netip.Addr) netip.Addr {
	if at.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

func (c *stockClient) fetch(ctx context.Context, addr, path string) error {
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+addr+path, nil)
	if err != nil {
		return err
	}
	conn, err := c.tr.Dial(ctx, to, clientTLS(), c.quic)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnsent, err)
	}
	defer func() { _ = conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "") }()
	resp, err := c.h3.NewClientConn(conn).RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	c.read(ctx, resp.Body)
	return nil
}

func (c *stockClient) end(o *outcome) error {
	c.wire.waitFor(context.Background(), 0)
	o.Drops = socketDrops()
	o.Backend = "msg"
	return errors.Join(c.h3.Close(), c.tr.Close(), c.socket.Close())
}
