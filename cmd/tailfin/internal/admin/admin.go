// Package admin is the daemon's address for its operator: plain HTTP/1.1 with
// metrics, health, profiles and a status page.
//
//	GET /                a status page: HTML and SVG, renewed every second by a small script
//	GET /status.json     what the page shows, as JSON, with the last five minutes second by second
//	GET /metrics         Prometheus text or OpenMetrics
//	GET /healthz         200 while the process runs; with ?verbose as JSON
//	GET /readyz          200 if uploads are taken now, else 503 and why
//	GET /debug/config    the configuration in effect, without secrets
//	GET /debug/pprof/    profiles of net/http/pprof
//
// It has no login. Listen on a loopback address or a Unix socket, which is the
// default of the daemon; /debug/ answers nobody on any other unless
// Options.ExposeDebug says so. Requests for host names that are not ours are
// refused, so that no web page can read this one by DNS rebinding.
package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/udp"
)

// Limits of the HTTP server: an operator, a scraper and a few open pages fit.
const (
	maxConns       = 64
	maxHeaderBytes = 16 << 10
	headerTimeout  = 5 * time.Second
	readTimeout    = 10 * time.Second
	writeTimeout   = 15 * time.Second
	idleTimeout    = time.Minute
	// profileTimeout bounds what /debug/pprof/ may take with ?seconds.
	profileTimeout = 5 * time.Minute
	closeTimeout   = time.Second
)

// Options say what there is to show. All may be left out.
type Options struct {
	// Gatherer has the metrics of the daemon's other parts. It must have none of
	// those that are made here: of package tailfin and udp, of the Go runtime and
	// of the process.
	Gatherer prometheus.Gatherer
	// Server is what answers requests.
	Server *tailfin.Server
	// Conns are the sockets, a shard each, once they are open.
	Conns func() []*udp.Conn
	// Steering tells whether the kernel chooses the shard of a datagram, and if
	// it does not why, as udp.Shards.Steering.
	Steering func() (kernel bool, why string)
	// Ready tells whether the daemon wants uploads. Nil means always.
	Ready *Readiness
	// SinkURL names the sink on the page; it must have no credentials.
	SinkURL string
	// SinkCheck tells whether the sink would take an upload now. It is asked once
	// a second at most, and given a second.
	SinkCheck func(ctx context.Context) error
	// Certificates are those in use.
	Certificates func() []Certificate
	// Recent are the records of the log to show.
	Recent *RecentErrors
	// Config is the configuration in effect, to be shown as JSON. What looks like a
	// secret is left out, see Redact; what does not must not be in it.
	Config func() any
	// ExposeDebug has /debug/ answer on listeners that are neither loopback nor a
	// Unix socket.
	ExposeDebug bool
	// Hosts are names that requests may be for, beside localhost and IP addresses.
	Hosts []string
	// Version of the daemon.
	Version string
	// Log gets what goes wrong here. Nil means slog.Default.
	Log *slog.Logger
}

// An Admin serves the admin address.
type Admin struct {
	opts    Options
	log     *slog.Logger
	started time.Time
	src     sources
	checker *checker // nil without a sink
	own     *prometheus.Registry
	sampler *sampler
	pages   *pages
	http    *http.Server

	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	start  sync.Once
	work   sync.WaitGroup // the sampler and checks
}

// New makes an Admin. Nothing runs before Serve.
func New(opts Options) (*Admin, error) { return newAdmin(opts, sampleInterval) }

func newAdmin(opts Options, every time.Duration) (*Admin, error) {
	a := &Admin{opts: opts, log: opts.Log, started: time.Now(), src: newSources(opts)}
	if a.log == nil {
		a.log = slog.Default()
	}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	if opts.SinkCheck != nil {
		a.checker = &checker{check: opts.SinkCheck, ctx: a.ctx, work: &a.work, timeout: checkTimeout, fresh: checkFresh}
	}
	var err error
	if a.own, err = a.registry(); err != nil {
		a.cancel()
		return nil, err
	}
	a.sampler = newSampler(&a.src, opts.Gatherer, every)
	if a.pages, err = newPages(a.window()); err != nil {
		a.cancel()
		return nil, err
	}
	a.http = &http.Server{
		Handler:           a.handler(),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		// net/http/pprof refuses profiles longer than this. Other handlers have writeTimeout.
		WriteTimeout:   profileTimeout + writeTimeout,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:       slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
		BaseContext:    a.baseContext,
	}
	return a, nil
}

// Serve answers on ln until Close, and then returns nil. It may be called for
// several listeners.
func (a *Admin) Serve(ln net.Listener) error {
	if !isLocal(ln.Addr()) {
		a.log.Warn("the admin address is open to other hosts and has no login; listen on 127.0.0.1 or a Unix socket, or let a firewall keep others out",
			"addr", ln.Addr().String(), "debug", a.opts.ExposeDebug)
	}
	a.start.Do(func() {
		a.sampler.take(time.Now()) // for the first request
		a.work.Go(a.watch)
	})
	err := a.http.Serve(netutil.LimitListener(patient{ln}, maxConns))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Close ends Serve, and all that runs for it. Requests at work have a second.
func (a *Admin) Close() error {
	a.cancel()
	a.start.Do(func() {}) // a Serve that comes later starts nothing
	if a.checker != nil {
		a.checker.stop()
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := a.http.Shutdown(ctx); err != nil {
		_ = a.http.Close()
	}
	idle := make(chan struct{})
	go func() { a.work.Wait(); close(idle) }()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return errors.New("admin: the sink's check does not return, though its context has ended")
	}
}

// window is how long samples are kept, in words.
func (a *Admin) window() string {
	return span(time.Duration(keptSamples-1) * a.sampler.every)
}

// watch takes the samples, and keeps what is known of the sink fresh.
func (a *Admin) watch() {
	checkSamples := max(1, int(checkEvery/a.sampler.every))
	tick := time.NewTicker(a.sampler.every)
	defer tick.Stop()
	for n := 0; ; n++ {
		if a.checker != nil && n%checkSamples == 0 {
			a.checker.refresh()
		}
		select {
		case <-a.ctx.Done():
			return
		case now := <-tick.C:
			a.sampler.take(now)
		}
	}
}

// sources are where the numbers come from.
type sources struct {
	server  func() tailfin.ServerStats
	drain   func() tailfin.DrainStats
	notQUIC func() uint64
	shards  func() []udp.Stats
}

func newSources(opts Options) sources {
	src := sources{
		server:  func() tailfin.ServerStats { return tailfin.ServerStats{} },
		drain:   func() tailfin.DrainStats { return tailfin.DrainStats{} },
		notQUIC: func() uint64 { return 0 },
		shards:  func() []udp.Stats { return nil },
	}
	if s := opts.Server; s != nil {
		src.server, src.drain, src.notQUIC = s.Stats, s.DrainStats, s.DroppedPackets
	}
	if opts.Conns != nil {
		src.shards = func() []udp.Stats {
			conns := opts.Conns()
			stats := make([]udp.Stats, len(conns))
			for i, c := range conns {
				stats[i] = c.Stats()
			}
			return stats
		}
	}
	return src
}
