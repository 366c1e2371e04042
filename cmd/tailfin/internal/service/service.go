// Package service is `tailfin serve`: it puts the rooms of the daemon together, and
// sees to its life cycle.
//
//	start   certificates, sink, sockets, admin; then "ready", READY=1, and a
//	        predecessor is told to go
//	HUP     configuration and certificates are read again; logs are opened again
//	TERM    readiness fails, --readiness-delay passes, GOAWAY, requests at work may
//	        finish until --grace is over, close. A second TERM ends the grace
package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/accesslog"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/admin"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/certs"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/config"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/limits"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/logging"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/qlogdir"
)

// recentErrors is how many records of Warn and above the status page keeps.
const recentErrors = 50

// Options are what the daemon is started with.
type Options struct {
	// Config is the configuration, and Reload reads it anew.
	Config *config.Loaded
	Reload func() (*config.Loaded, error)
	// Stderr gets the log and the line that begins with "ready".
	Stderr  io.Writer
	Version string
}

// A daemon is one that runs. Its fields are set by start, and not changed later.
type daemon struct {
	Options
	conf *config.Loaded // the one in effect; changed by reload on the goroutine of Run

	level       *slog.LevelVar
	log, access *slog.Logger
	recent      *admin.RecentErrors
	reg         *prometheus.Registry
	ready       *admin.Readiness
	shown       shown

	certs    *certs.Source
	store    *store
	limits   *limits.Limits
	requests *accesslog.Log
	sockets  *sockets
	server   *tailfin.Server

	adminAddr  atomic.Pointer[net.Addr] // nil without
	closeAdmin func()                   // may be called again
	closers    []func()                 // in order of making
}

// Run serves until ctx ends, and then until the requests at work are answered.
// Options that cannot be used are a *config.Error.
func Run(ctx context.Context, o Options) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	d := &daemon{Options: o, conf: o.Config, closeAdmin: func() {}}
	defer d.close()
	if err := d.start(ctx); err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- d.sockets.serve(d.server) }()
	if err := d.announce(ctx); err != nil {
		return err
	}
	background, stop := context.WithCancel(context.Background())
	defer stop()
	go watchdog(background, d.sockets, d.log)
	go d.store.watch(background, d.log)
	for {
		select {
		case err := <-served:
			return fmt.Errorf("serving on %s ended: %w", d.conf.Listen, err)
		case <-hup:
			d.reload(ctx)
		case <-d.sockets.superseded():
			d.log.Info("another tailfin has taken over; finishing what was begun here", "grace", d.conf.Grace.String())
			return d.shutdown(ctx, served, true)
		case <-ctx.Done():
			d.log.Info("stopping: GOAWAY is sent, requests at work may finish", "grace", d.conf.Grace.String())
			return d.shutdown(ctx, served, false)
		}
	}
}

func (d *daemon) onClose(f func()) { d.closers = append(d.closers, f) }

func (d *daemon) close() {
	for i := len(d.closers) - 1; i >= 0; i-- {
		d.closers[i]()
	}
}

// start makes everything but the sockets first: what cannot work then disturbs no
// predecessor.
func (d *daemon) start(ctx context.Context) error {
	c := d.conf
	d.level = new(slog.LevelVar)
	d.level.Set(c.LogLevel)
	d.log, d.access = logging.New(d.Stderr, logging.Options{
		JSON: c.LogFormat == "json", Level: d.level, Repeat: c.LogRepeat,
		Tee: func(h slog.Handler) slog.Handler {
			d.recent = admin.NewRecentErrors(h, recentErrors)
			return d.recent
		},
	})
	d.reg = prometheus.NewRegistry()
	if err := setSlice(c.Slice); err != nil {
		d.log.Warn("the scheduler did not take the slice; datagrams may wait while others compute", "slice", c.Slice.String(), "err", err)
	}
	d.ready = new(admin.Readiness)
	d.shown.set(c)
	d.limits = limits.New(rates(c), d.reg)
	d.requests = accesslog.New(d.access, d.reg)
	d.requests.SetMode(accessModes[c.AccessLog])
	for _, step := range []func(context.Context) error{d.openCerts, d.openStore, d.openSockets, d.makeServer, d.openAdmin} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// accessModes are the values of --access-log.
var accessModes = map[string]accesslog.Mode{"on": accesslog.All, "errors": accesslog.Errors, "off": accesslog.Off}

func rates(c *config.Loaded) limits.Rates {
	return limits.Rates{Retry: c.HandshakeRate, Handshakes: c.HandshakeMax, AddrHandshakes: c.AddrHandshakes, AddrRequests: c.AddrRequests}
}

func (d *daemon) makeServer(context.Context) error {
	c := d.conf
	tlsConf := d.certs.TLSConfig()
	if c.KeyLog != "" {
		f, err := os.OpenFile(c.KeyLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return c.Wrong("key-log", c.KeyLog, err, "name a file that can be written")
		}
		d.log.Warn("TLS secrets are written: whoever has them reads the traffic", "file", c.KeyLog)
		d.onClose(func() { _ = f.Close() })
		tlsConf.KeyLogWriter = f
	}
	quicConf := &quic.Config{GetConfigForClient: d.limits.Admit, KeepAlivePeriod: keepAlive}
	if c.QlogDir != "" {
		dir, err := qlogdir.Open(c.QlogDir, c.QlogMax, d.log)
		if err != nil {
			return c.Wrong("qlog-dir", c.QlogDir, err, "name a folder that can be written")
		}
		quicConf.Tracer = dir.Trace
	}
	d.sockets.useKeys(tlsConf)
	d.server = &tailfin.Server{
		Handler:            d.requests.Handler(d.limits.Handler(d.store)),
		TLSConfig:          tlsConf,
		QUICConfig:         quicConf,
		MaxHeaderBytes:     int(c.MaxHeader),
		MaxConns:           c.MaxConns,
		MaxConnsPerAddr:    c.MaxConnsPerAddr,
		MaxHandshakes:      c.MaxHandshakes,
		MaxRequestsPerConn: c.MaxStreams,
		ReadHeaderTimeout:  forever(c.HeaderTimeout),
		BodyIdleTimeout:    c.BodyTimeout,
		RequestTimeout:     c.RequestTimeout,
		IdleTimeout:        c.IdleTimeout,
		DisableDrain:       c.Drain == "off",
		Logger:             d.log,
	}
	for _, tr := range d.sockets.transports {
		tr.Tracer = d.server.PacketTracer()
		tr.VerifySourceAddress = d.verifySourceAddress
	}
	return nil
}

// verifySourceAddress has clients prove their address while new ones are many, or those
// whose handshake is under way.
func (d *daemon) verifySourceAddress(addr net.Addr) bool {
	return d.limits.VerifySourceAddress(addr) || d.server.VerifySourceAddress(addr)
}

// keepAlive is how often a silent client is asked whether it is there. Without it QUIC's own
// idle timeout, the shorter of both ends' (RFC 9000 §10.1), ends connections whose request
// is at work for long, and comes before --idle-timeout. quic-go (v0.65.0) asks earlier
// where the client's timeout is short.
const keepAlive = 15 * time.Second

// forever is a time for which zero means any.
func forever(t time.Duration) time.Duration {
	if t == 0 {
		return -1
	}
	return t
}

// announce says that the daemon is ready: on stderr, to the service manager, to
// load balancers, and to a predecessor, which stops then.
func (d *daemon) announce(ctx context.Context) error {
	if err := d.sockets.begin(ctx); err != nil {
		return fmt.Errorf("take over: %w", err)
	}
	d.ready.SetReady(true, "")
	first := d.sockets.conns[0]
	line := fmt.Sprintf("ready listen=%s backend=%s gro=%s drain=%s shards=%d sink=%s",
		first.LocalAddr(), first.Backend(), onOff(first.GRO()), d.conf.Drain, len(d.sockets.conns), d.store.name)
	if addr := d.adminAddr.Load(); addr != nil {
		line += fmt.Sprintf(" admin=%s", *addr)
	}
	fmt.Fprintf(d.Stderr, "%s reason=%q\n", line, first.Reason())
	notify(d.log, sd.SdNotifyReady, fmt.Sprintf("STATUS=receiving on %s by %s", first.LocalAddr(), first.Backend()))
	return nil
}

// delay goes on serving while readiness fails, so that load balancers see it.
func (d *daemon) delay(again context.Context) {
	select {
	case <-time.After(d.conf.ReadinessDelay):
	case <-again.Done():
	}
}

// cleanTime is how long handlers may take to clean up after requests that are cut off.
const cleanTime = 2 * time.Second

// shutdown answers the requests at work and ends. Where no successor has taken over
// load balancers have time to turn away first. ctx ends with the first signal, and a
// second one ends the waiting.
func (d *daemon) shutdown(ctx context.Context, served <-chan error, succeeded bool) error {
	d.ready.SetReady(false, "stopping")
	notify(d.log, sd.SdNotifyStopping, "STATUS=stopping")
	again, stop := nextSignal(ctx)
	defer stop()
	if !succeeded {
		d.delay(again)
	}
	grace, cancel := context.WithTimeout(again, d.conf.Grace)
	defer cancel()
	if err := d.server.Shutdown(grace); err != nil {
		d.log.Warn("grace is over; requests at work were cut off", "err", err)
		// Their handlers learn of it by the bodies, and take back what they had begun.
		last, cancel := context.WithTimeout(context.Background(), cleanTime)
		defer cancel()
		_ = d.server.Shutdown(last) // it waits for handlers
	}
	if err := <-served; !errors.Is(err, tailfin.ErrServerClosed) {
		return fmt.Errorf("stopping: %w", err)
	}
	stats, drained := d.sockets.stats(), d.server.DrainStats()
	d.log.Info("stopped", "datagrams", stats.Datagrams, "bytes", stats.Bytes, "trains", stats.Trains,
		"kernel_drops", stats.KernelDrops, "not_quic", d.server.DroppedPackets(),
		"closes", drained.Closes, "saved_streams", drained.Streams, "saved_bytes", drained.Bytes)
	// An instance that we have taken over from may need us yet, and a successor waits
	// for the admin address.
	d.closeAdmin()
	d.sockets.leave(grace)
	return nil
}

// nextSignal is a context that ends with the signal after the one that ends first,
// which may be to come: the service manager stops an instance that finishes already.
func nextSignal(first context.Context) (context.Context, context.CancelFunc) {
	again, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	listen := func() { signal.Notify(signals, os.Interrupt, syscall.SIGTERM) }
	if first.Err() != nil {
		listen() // at once: without it the signal ends the process
	}
	go func() {
		defer signal.Stop(signals)
		select {
		case <-first.Done():
			listen()
		case <-again.Done():
			return
		}
		select {
		case <-signals:
			cancel()
		case <-again.Done():
		}
	}()
	return again, cancel
}

// reload reads configuration and certificates again.
func (d *daemon) reload(ctx context.Context) {
	notify(d.log, reloading()...)
	defer notify(d.log, sd.SdNotifyReady)
	next, err := d.Reload()
	if err != nil {
		d.log.Error("the configuration was not reloaded; the one before stays in effect", "err", err)
	} else {
		d.adopt(next)
	}
	_ = d.certs.Reload(ctx) // it logs
	if err := d.store.reopen(); err != nil {
		d.log.Error("the sink was not opened again", "err", err)
	}
}

// adopt puts the options of next into effect that need no restart.
func (d *daemon) adopt(next *config.Loaded) {
	changes := d.conf.Diff(&next.Serve)
	d.log.Info("configuration read again", "changes", len(changes))
	for _, ch := range changes {
		if ch.Live {
			d.log.Info("reloaded", "option", ch.Option, "from", ch.From, "to", ch.To)
		} else {
			d.log.Warn("changed, but needs a restart to take effect", "option", ch.Option, "in_effect", ch.From, "new", ch.To)
		}
	}
	d.conf.Adopt(&next.Serve)
	d.shown.set(d.conf)
	d.level.Set(d.conf.LogLevel)
	d.limits.Set(rates(d.conf))
	d.requests.SetMode(accessModes[d.conf.AccessLog])
	d.store.setMaxBody(int64(d.conf.MaxBody))
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}
