package closerace

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/udp"
)

// idleTimeout ends connections whose close was lost on the way.
const idleTimeout = 3 * time.Second

// The windows of all receivers: quic-go's own, which is more than a burst sends. Our
// Server would begin with less, and a burst does not ask.
const (
	streamWindow = 512 << 10
	connWindow   = 768 << 10
)

func quicConfig() *quic.Config {
	return &quic.Config{
		MaxIdleTimeout: idleTimeout, InitialStreamReceiveWindow: streamWindow, InitialConnectionReceiveWindow: connWindow,
	}
}

// How long bodies that QUIC has received may take to reach the application before they
// count as lost. With the drain none must be, and it gets the benefit of no doubt.
const (
	drainPatience   = 5 * time.Second
	noDrainPatience = 20 * time.Millisecond
)

func patience(t turn) time.Duration {
	if t.Receiver == DrainOn {
		return t.ReaderDelay + drainPatience
	}
	return t.ReaderDelay + noDrainPatience
}

// A tailfinServer is our Server.
type tailfinServer struct {
	*tally
	conn   *udp.Conn
	server *tailfin.Server
	served chan error
}

func newTailfinServer(at netip.Addr, cert tls.Certificate, count *tally) (server, error) {
	conn, err := udp.Listen("udp", netip.AddrPortFrom(at, 0).String())
	if err != nil {
		return nil, err
	}
	_ = conn.SetReadBuffer(readBuffer)
	s := &tailfinServer{tally: count, conn: conn, served: make(chan error, 1)}
	s.server = &tailfin.Server{
		Handler:      http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { count.read(context.Background(), r.Body) }),
		TLSConfig:    serverTLS(cert),
		QUICConfig:   count.wire.config(quicConfig()),
		DisableDrain: count.turn.Receiver == DrainOff,
		Logger:       quiet(),
	}
	go func() { s.served <- s.server.Serve(conn) }()
	return s, nil
}

func (s *tailfinServer) addr() string { return s.conn.LocalAddr().String() }

func (s *tailfinServer) end(ctx context.Context, sent int, o *outcome) error {
	s.wire.waitFor(ctx, sent)
	o.Drops = socketDrops()
	s.settle(ctx, patience(s.turn))
	ctx, cancel := context.WithTimeout(ctx, messageTimeout)
	defer cancel()
	err := s.server.Shutdown(ctx)
	if err != nil {
		_ = s.server.Close()
	}
	if serr := <-s.served; err == nil && !errors.Is(serr, tailfin.ErrServerClosed) {
		err = serr
	}
	stats := s.server.DrainStats()
	o.Saved, o.TimedOut, o.Backend = stats.Bytes, stats.TimedOut, s.conn.Backend().String()
	return errors.Join(err, s.conn.Close())
}

// A tailfinClient is our Transport. It takes each message on a connection of its own,
// since each is of an authority of its own.
type tailfinClient struct {
	*tally
	tr    *tailfin.Transport
	names atomic.Uint64
}

func newTailfinClient(count *tally) *tailfinClient {
	return &tailfinClient{tally: count, tr: &tailfin.Transport{
		TLSClientConfig: clientTLS(),
		QUICConfig:      count.wire.config(quicConfig()),
		Resolver:        anyName{},
		DisableDrain:    count.turn.Receiver == DrainOff,
		Logger:          quiet(),
	}}
}

// anyName takes a name for the address that it begins with: 127-0-0-1.17.invalid.
type anyName struct{}

func (anyName) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	first, _, _ := strings.Cut(host, ".")
	addr, err := netip.ParseAddr(strings.ReplaceAll(first, "-", "."))
	return []netip.Addr{addr}, err
}

func (c *tailfinClient) fetch(ctx context.Context, addr, path string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	url := fmt.Sprintf("https://%s.%d.invalid:%s%s", strings.ReplaceAll(host, ".", "-"), c.names.Add(1), port, path)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := c.tr.RoundTrip(req)
	var dial *tailfin.DialError
	if errors.As(err, &dial) {
		return fmt.Errorf("%w: %w", errUnsent, err)
	}
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	c.read(ctx, resp.Body)
	return nil
}

func (c *tailfinClient) end(o *outcome) error {
	c.wire.waitFor(context.Background(), 0)
	o.Drops = socketDrops()
	stats := c.tr.DrainStats()
	o.Saved, o.TimedOut, o.Backend = stats.Bytes, stats.TimedOut, c.tr.Backend().String()
	err := c.tr.Close()
	c.wire.wait()
	return err
}
