package admin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/quic-go/quic-go"
	"go.uber.org/goleak"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/devcert"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/receiver"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
	"github.com/tailfin-quic/tailfin/udp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what a busy machine may take.
const patience = 2 * time.Minute

var quiet = slog.New(slog.DiscardHandler)

// serve runs an Admin on a loopback port until the test ends, and returns its URL.
func serve(t testing.TB, a *Admin) string {
	t.Helper()
	ln, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- a.Serve(ln) }()
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return "http://" + ln.Addr().String()
}

// start makes an Admin and serves it.
func start(t testing.TB, opts Options) (*Admin, string) {
	t.Helper()
	if opts.Log == nil {
		opts.Log = quiet
	}
	a, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return a, serve(t, a)
}

// client has no connections left when the test ends.
func client(t testing.TB) *http.Client {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// get is one request, with header fields in pairs. "Host" sets the host.
func get(t testing.TB, c *http.Client, url string, header ...string) (*http.Response, string) {
	t.Helper()
	return do(t, c, http.MethodGet, url, header...)
}

func do(t testing.TB, c *http.Client, method, url string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
			continue
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// A daemon is a receiver with all that it says of itself, and clients.
type daemon struct {
	server *tailfin.Server
	conns  []*udp.Conn
	addr   string
	cert   tls.Certificate
	reg    *prometheus.Registry
	ready  *Readiness
	recent *RecentErrors
	log    *slog.Logger
	sink   *sink.Dir
	broken atomic.Pointer[error] // what the sink's check says, if set
}

// newDaemon serves on loopback until the test ends.
func newDaemon(t testing.TB, shards int) *daemon {
	t.Helper()
	d := &daemon{reg: prometheus.NewRegistry(), ready: &Readiness{}}
	d.recent = NewRecentErrors(slog.DiscardHandler, 50)
	d.log = slog.New(d.recent)
	var err error
	if d.cert, err = devcert.New("upload.example.net"); err != nil {
		t.Fatal(err)
	}
	if d.sink, err = sink.OpenDir(t.TempDir(), sink.Options{}); err != nil {
		t.Fatal(err)
	}
	sockets, err := udp.ListenShards("udp", "127.0.0.1:0", shards)
	if err != nil {
		t.Fatal(err)
	}
	d.conns = sockets.Conns()
	d.addr = d.conns[0].LocalAddr().String()
	d.server = &tailfin.Server{
		Handler:   d.counted(&receiver.Handler{Sink: d.sink}),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{d.cert}, MinVersion: tls.VersionTLS13},
		Logger:    d.log,
	}
	var serving sync.WaitGroup
	var transports []*quic.Transport
	for i, c := range d.conns {
		tr := &quic.Transport{Conn: c, ConnectionIDGenerator: sockets.ConnectionIDs(i)}
		transports = append(transports, tr)
		serving.Go(func() {
			if err := d.server.ServeTransport(tr); !errors.Is(err, tailfin.ErrServerClosed) {
				t.Errorf("Serve: %v", err)
			}
		})
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = d.server.Shutdown(ctx) // waits for handlers, which write to the folder
		serving.Wait()
		for _, tr := range transports {
			_ = tr.Close()
		}
		_ = sockets.Close()
		_ = d.sink.Close()
	})
	d.ready.SetReady(true, "")
	return d
}

// counted counts requests as the daemon's access log does.
func (d *daemon) counted(next http.Handler) http.Handler {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: requestsName, Help: "Requests answered, by method and status."}, []string{"method", "code"})
	seconds := prometheus.NewHistogram(prometheus.HistogramOpts{Name: secondsName, Help: "Time from a request's head to the end of its answer, in seconds.", Buckets: prometheus.ExponentialBuckets(1e-4, 2, 18)})
	stores := prometheus.NewCounterVec(prometheus.CounterOpts{Name: storesName, Help: "Uploads given to the sink, by result."}, []string{"result"})
	limited := prometheus.NewCounterVec(prometheus.CounterOpts{Name: limitsPrefix + "handshakes_retried_total", Help: "Handshakes answered with Retry."}, []string{"reason"})
	limited.WithLabelValues("rate")
	d.reg.MustRegister(requests, seconds, stores, limited)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		s := &status{ResponseWriter: w, code: http.StatusOK}
		next.ServeHTTP(s, r)
		seconds.Observe(time.Since(begun).Seconds())
		requests.WithLabelValues(r.Method, strconv.Itoa(s.code)).Inc()
		switch {
		case r.Method == http.MethodPut && s.code >= 500:
			stores.WithLabelValues("error").Inc()
		case r.Method == http.MethodPut && s.code < 300:
			stores.WithLabelValues("stored").Inc()
		}
		if s.code >= 400 {
			d.log.Warn("request", "peer", r.RemoteAddr, "method", r.Method, "path", r.URL.Path, "status", s.code)
		}
	})
}

type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) { s.code = code; s.ResponseWriter.WriteHeader(code) }

// options are those of the daemon's Admin.
func (d *daemon) options() Options {
	return Options{
		Gatherer: d.reg, Server: d.server, Conns: func() []*udp.Conn { return d.conns }, Ready: d.ready,
		SinkURL: "dir:/var/lib/tailfin/received", SinkCheck: d.check,
		Certificates: func() []Certificate { return []Certificate{CertificateOf(d.cert.Leaf, devCert)} },
		Recent:       d.recent, Version: "v1.2.3", Log: d.log,
		Config: func() any { return map[string]any{"listen": d.addr, "nats_token": "hunter2"} },
	}
}

func (d *daemon) check(ctx context.Context) error {
	if err := d.broken.Load(); err != nil {
		return *err
	}
	return d.sink.Check(ctx)
}

func (d *daemon) newTransport() *tailfin.Transport {
	pool := x509.NewCertPool()
	pool.AddCert(d.cert.Leaf)
	return &tailfin.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, Logger: quiet}
}

func (d *daemon) transport(t testing.TB) *tailfin.Transport {
	tr := d.newTransport()
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

// put uploads size bytes under name, and returns the status.
func (d *daemon) put(ctx context.Context, tr http.RoundTripper, name string, size int) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "https://"+d.addr+"/"+name, strings.NewReader(strings.Repeat("x", size)))
	if err != nil {
		return 0, err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// load keeps clients at work until the test ends: uploads of several sizes,
// downloads, clients that close behind their FIN, and refused names.
func (d *daemon) load(t testing.TB) {
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	t.Cleanup(func() { cancel(); work.Wait() })
	for i := range 3 {
		tr := d.transport(t)
		work.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				_, _ = d.put(ctx, tr, fmt.Sprintf("report-%d-%d", i, n%20), 1000<<(n%9))
				pause(ctx, 5*time.Millisecond)
			}
		})
	}
	work.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			tr := d.newTransport()
			req, _ := http.NewRequestWithContext(ctx, http.MethodPut, "https://"+d.addr+"/last-"+strconv.Itoa(n%20), strings.NewReader(strings.Repeat("y", 9000)))
			_ = tr.SendAndClose(req)
			_ = tr.Close()
			pause(ctx, 150*time.Millisecond)
		}
	})
	tr := d.transport(t)
	work.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			_, _ = d.put(ctx, tr, ".hidden-"+strconv.Itoa(n%3), 10)
			pause(ctx, 400*time.Millisecond)
		}
	})
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// eventually waits for what must come.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("%s: not within %v", what, patience)
}
