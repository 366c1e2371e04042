package service

import (
	"context"
	"net"
	"sync/atomic"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/admin"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/config"
	"github.com/tailfin-quic/tailfin/udp"
)

// openAdmin opens the admin address. Before the sockets are served it says that the
// daemon is starting.
func (d *daemon) openAdmin(context.Context) error {
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
		ExposeDebug: c.AdminPprof,
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
	ln, err := admin.Listen(c.Admin)
	if err != nil {
		return c.Wrong("admin", c.Admin, err, "give HOST:PORT with a free TCP port, for example 127.0.0.1:9433, or unix:PATH")
	}
	if host, _, err := net.SplitHostPort(ln.Addr().String()); err == nil {
		if ip := net.ParseIP(host); ip != nil && !ip.IsLoopback() {
			d.log.Warn("the admin address has no login, and is reachable from other machines", "admin", ln.Addr().String())
		}
	}
	d.onClose(func() { _ = a.Close() })
	go func() {
		if err := a.Serve(ln); err != nil {
			d.log.Error("the admin address is not served any more", "err", err)
		}
	}()
	d.adminAddr = ln.Addr()
	return nil
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
