package service

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/admin"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/config"
	"github.com/tailfin-quic/tailfin/udp"
)

// openAdmin opens the admin address. Before the sockets are served it says that the
// daemon is starting.
func (d *daemon) openAdmin(ctx context.Context) error {
	c := d.conf
	if c.Admin == "" {
		return nil
	}
	opts := admin.Options{
		Gatherer:    d.reg,
		Server:      d.server,
		Conns:       func() []*udp.Conn { return d.sockets.conns },
		Ready:       d.ready,
		SinkURL:     d.store.name,
		SinkCheck:   d.store.state,
		Recent:      d.recent,
		Config:      d.shown.effective,
		ExposeDebug: c.AdminExposeDebug,
		Hosts:       c.AdminHost,
		Version:     d.Version,
		Log:         d.log,
		Certificates: func() []admin.Certificate {
			var list []admin.Certificate
			for _, info := range d.certs.Info() {
				list = append(list, admin.Certificate{Names: info.Names, Issuer: info.Issuer, Source: info.Source, NotAfter: info.NotAfter})
			}
			return list
		},
	}
	if d.sockets.own != nil {
		opts.Steering = d.sockets.own.Shards().Steering
	}
	a, err := admin.New(opts)
	if err != nil {
		return err
	}
	waiting, stop := context.WithCancel(ctx)
	var waiter sync.WaitGroup
	d.closeAdmin = sync.OnceFunc(func() {
		stop()
		waiter.Wait() // it would serve what is closed, and keep the address
		_ = a.Close()
	})
	d.onClose(d.closeAdmin)
	ln, err := admin.Listen(c.Admin)
	switch {
	case err == nil:
		d.serveAdmin(a, ln)
	case c.Takeover && errors.Is(err, syscall.EADDRINUSE):
		waiter.Go(func() { d.awaitAdmin(waiting, a, c.Admin) })
	case strings.Contains(c.Admin, "/"): // a Unix socket, of which the error says what to do
		return c.Wrong("admin", c.Admin, err, "")
	default:
		return c.Wrong("admin", c.Admin, err, "give HOST:PORT with a free TCP port, for example 127.0.0.1:9433, or unix:PATH")
	}
	return nil
}

// serveAdmin serves the admin address until a is closed.
func (d *daemon) serveAdmin(a *admin.Admin, ln net.Listener) {
	if addr, ok := ln.Addr().(*net.TCPAddr); ok && !addr.IP.IsLoopback() {
		d.log.Warn("the admin address has no login, and is reachable from other machines", "admin", addr.String())
	}
	addr := ln.Addr()
	d.adminAddr.Store(&addr)
	go func() {
		if err := a.Serve(ln); err != nil {
			d.log.Error("the admin address is not served any more", "err", err)
		}
	}()
}

// awaitAdmin serves the admin address once a predecessor has left it.
func (d *daemon) awaitAdmin(ctx context.Context, a *admin.Admin, address string) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		ln, err := admin.Listen(address)
		if err == nil {
			d.log.Info("the admin address is ours", "admin", ln.Addr().String())
			d.serveAdmin(a, ln)
			return
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			d.log.Error("the admin address is not served", "admin", address, "err", err)
			return
		}
	}
}

// shown is the configuration in effect, for other goroutines than that of Run.
type shown struct {
	now atomic.Pointer[map[string]any]
}

func (s *shown) set(c *config.Loaded) {
	m := c.Effective()
	s.now.Store(&m)
}

func (s *shown) effective() any { return *s.now.Load() }
