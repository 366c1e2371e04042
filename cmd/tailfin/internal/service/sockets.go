package service

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/config"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/takeover"
	"github.com/tailfin-quic/tailfin/udp"
)

// sockets are what the daemon receives on: those that it has opened, or those of the
// service manager.
type sockets struct {
	conns      []*udp.Conn
	transports []*quic.Transport
	own        *takeover.Listener // nil for those of the service manager
}

// openSockets opens the address, or takes over what the service manager has opened.
func (d *daemon) openSockets(ctx context.Context) error {
	backend, err := udp.ParseBackend(d.conf.Backend)
	if err != nil {
		return d.conf.Wrong("backend", d.conf.Backend, err, "give auto, uring, mmsg or msg")
	}
	options := []udp.Option{udp.WithBackend(backend), udp.WithGRO(!d.conf.NoGRO), udp.WithStrict(d.conf.Strict), udp.WithModeration(d.conf.Moderation), udp.WithLogger(d.log)}
	given, err := activation.PacketConns()
	if err != nil {
		return fmt.Errorf("sockets of the service manager: %w", err)
	}
	if len(given) > 0 {
		err = d.wrapSockets(given, options)
	} else {
		err = d.listen(ctx, options)
	}
	if err != nil {
		return err
	}
	d.onClose(d.sockets.close)
	return nil
}

// wrapSockets serves the sockets of the service manager (sd_listen_fds(3)).
func (d *daemon) wrapSockets(given []net.PacketConn, options []udp.Option) error {
	s := &sockets{}
	for i, c := range given {
		socket, ok := c.(*net.UDPConn)
		if !ok {
			s.close()
			return fmt.Errorf("socket %d of the service manager is no UDP socket; use ListenDatagram in its unit", i+1)
		}
		conn, err := udp.Wrap(socket, options...)
		if err != nil {
			s.close()
			return fmt.Errorf("socket %d of the service manager: %w", i+1, err)
		}
		s.conns = append(s.conns, conn)
		s.transports = append(s.transports, &quic.Transport{Conn: conn})
	}
	d.log.Info("receiving on sockets of the service manager", "sockets", len(given), "listen_ignored", d.conf.Listen)
	d.sockets = s
	return nil
}

// listen opens sockets of our own.
func (d *daemon) listen(ctx context.Context, options []udp.Option) error {
	ln, err := takeover.Listen(ctx, takeover.Config{
		Network: "udp", Address: d.conf.Listen, Shards: d.shards(), Takeover: d.conf.Takeover,
		Options: options, Logger: d.log, Metrics: d.reg,
	})
	if err != nil {
		return d.explainListen(err)
	}
	d.sockets = &sockets{conns: ln.Shards().Conns(), transports: ln.Transports(), own: ln}
	if kernel, why := ln.Shards().Steering(); !kernel && len(d.sockets.conns) > 1 {
		d.log.Warn("the kernel does not steer datagrams to shards; they are handed over here, at a cost", "why", why)
	}
	return nil
}

// shards is how many to open.
func (d *daemon) shards() int {
	if d.conf.Shards > 0 {
		return d.conf.Shards
	}
	return min(runtime.GOMAXPROCS(0), config.MaxShards)
}

// explainListen says which option is to blame for a socket that was not opened.
func (d *daemon) explainListen(err error) error {
	c := d.conf
	var inUse *takeover.InUseError
	if errors.As(err, &inUse) {
		return c.Wrong("listen", c.Listen, fmt.Errorf("process %d serves it", inUse.PID), "give --takeover to have it finish and go, or another port")
	}
	var opErr *net.OpError
	var addrErr *net.AddrError
	var dnsErr *net.DNSError
	switch {
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.ENOBUFS):
		return fmt.Errorf("listen on %s: %w", c.Listen, err) // no option is to blame, and the error says what to do
	case errors.As(err, &opErr), errors.As(err, &addrErr), errors.As(err, &dnsErr), errors.Is(err, syscall.EADDRINUSE):
		return c.Wrong("listen", c.Listen, err, "give HOST:PORT of this machine with a free UDP port, for example 127.0.0.1:4433; `ss -ulpn` shows who has a port")
	case c.Strict && c.Backend == "auto":
		return c.Wrong("strict", "", err, "leave --strict out to fall back; `tailfin doctor` says what this machine lacks")
	}
	return c.Wrong("backend", c.Backend, err, "use --backend auto, which falls back and says why; `tailfin doctor` says what blocks io_uring")
}

// useKeys has conf issue session tickets that other instances take.
func (s *sockets) useKeys(conf *tls.Config) {
	if s.own != nil {
		s.own.Tickets(conf)
	}
}

// serve serves until the server is stopped, or a socket fails.
func (s *sockets) serve(server *tailfin.Server) error {
	errs := make([]error, len(s.transports))
	var wg sync.WaitGroup
	for i, tr := range s.transports {
		wg.Go(func() {
			if errs[i] = server.ServeTransport(tr); !errors.Is(errs[i], tailfin.ErrServerClosed) {
				_ = server.Close() // the others would serve only some of the clients
			}
		})
	}
	wg.Wait()
	if i := slices.IndexFunc(errs, func(err error) bool { return !errors.Is(err, tailfin.ErrServerClosed) }); i >= 0 {
		return errs[i]
	}
	return tailfin.ErrServerClosed
}

// begin tells a predecessor, if there is one, that we serve.
func (s *sockets) begin(ctx context.Context) error {
	if s.own == nil {
		return nil
	}
	return s.own.Ready(ctx)
}

// superseded is closed when another instance has taken over.
func (s *sockets) superseded() <-chan struct{} {
	if s.own == nil {
		return nil
	}
	return s.own.Superseded()
}

// leave closes sockets of our own, once an instance that was taken over from before has
// ended, or ctx has.
func (s *sockets) leave(ctx context.Context) {
	if s.own != nil {
		_ = s.own.Close(ctx)
	}
}

func (s *sockets) close() {
	if s.own != nil {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		s.leave(now)
		return
	}
	for _, tr := range s.transports {
		_ = tr.Close()
	}
	for _, c := range s.conns {
		_ = c.Close()
	}
}

// stats sums what the sockets have received.
func (s *sockets) stats() udp.Stats {
	var sum udp.Stats
	for _, c := range s.conns {
		one := c.Stats()
		sum.Datagrams += one.Datagrams
		sum.Bytes += one.Bytes
		sum.Trains += one.Trains
		sum.KernelDrops += one.KernelDrops
	}
	return sum
}
