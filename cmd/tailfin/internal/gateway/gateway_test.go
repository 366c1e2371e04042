package gateway

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/quic-go/quic-go"
	"go.uber.org/goleak"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/accesslog"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/devcert"
	"github.com/tailfin-quic/tailfin/udp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quietLog = slog.New(slog.DiscardHandler)

// testCert is a certificate for loopback, made once.
var testCert = sync.OnceValues(func() (tls.Certificate, error) { return devcert.New() })

func cert(t testing.TB) tls.Certificate {
	t.Helper()
	c, err := testCert()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func serverTLS(t testing.TB) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{cert(t)}, MinVersion: tls.VersionTLS13}
}

func clientTLS(t testing.TB) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(cert(t).Leaf)
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}
}

func want[T any](t testing.TB, got, wanted T) {
	t.Helper()
	if diff := gocmp.Diff(wanted, got, cmpopts.EquateErrors()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// eventually waits for what no channel tells of.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// serveHTTP3 serves on loopback until the test ends, and returns the address.
func serveHTTP3(t testing.TB, addr string, s *tailfin.Server) string {
	t.Helper()
	conn, err := udp.Listen("udp", addr, udp.WithBackend(udp.Mmsg))
	if err != nil {
		t.Fatal(err)
	}
	s.TLSConfig, s.Logger = serverTLS(t), quietLog
	if s.QUICConfig == nil {
		s.QUICConfig = &quic.Config{HandshakeIdleTimeout: time.Minute} // for loaded machines
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(conn) }()
	t.Cleanup(func() {
		_ = s.Close()
		<-served
		_ = conn.Close()
	})
	return conn.LocalAddr().String()
}

// A testGateway is a gateway as a client meets it: behind a tailfin.Server.
type testGateway struct {
	*Gateway
	addr   string
	client *http.Client
	lines  *accessLines
	reg    *prometheus.Registry
}

func startGateway(t testing.TB, conf Config) *testGateway {
	t.Helper()
	return startGatewayOn(t, "127.0.0.1:0", conf)
}

func startGatewayOn(t testing.TB, addr string, conf Config) *testGateway {
	t.Helper()
	g := &testGateway{lines: &accessLines{}, reg: prometheus.NewPedanticRegistry()}
	if conf.TLS == nil {
		conf.TLS = clientTLS(t)
	}
	patience := time.Minute // for loaded machines
	if strings.HasPrefix(conf.Upstream, "https:") {
		patience = 2 * time.Second // nobody answers over UDP there, and the dial should not take long
	}
	conf.DialTimeout = cmp.Or(conf.DialTimeout, patience)
	conf.Logger, conf.Registerer = quietLog, g.reg
	conf.ListenOptions = []udp.Option{udp.WithBackend(udp.Mmsg)}
	var err error
	if g.Gateway, err = New(conf); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	log := slog.New(slog.NewJSONHandler(g.lines, nil))
	g.addr = serveHTTP3(t, addr, &tailfin.Server{Handler: accesslog.New(log, nil).Handler(g), EnableExtendedConnect: true})
	g.client = &http.Client{Transport: newTransport(t)}
	return g
}

func newTransport(t testing.TB) *tailfin.Transport {
	tr := &tailfin.Transport{
		TLSClientConfig: clientTLS(t), ListenOptions: []udp.Option{udp.WithBackend(udp.Mmsg)},
		QUICConfig:  &quic.Config{HandshakeIdleTimeout: time.Minute},
		DialTimeout: time.Minute, DisableCompression: true, Logger: quietLog,
	}
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

func (g *testGateway) url(path string) string { return "https://" + g.addr + path }

// do sends one request, and returns the answer with its body read.
func (g *testGateway) do(t testing.TB, method, path string, body io.Reader, fields ...string) (*http.Response, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, g.url(path), body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	resp, err := g.client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}

// mustDo is do for a request that must get an answer.
func (g *testGateway) mustDo(t testing.TB, method, path string, body io.Reader, fields ...string) (*http.Response, string) {
	t.Helper()
	resp, b, err := g.do(t, method, path, body, fields...)
	if err != nil {
		t.Fatal(err)
	}
	return resp, b
}

// metric is the sum of a metric's samples with these labels, name=value.
func (g *testGateway) metric(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	families, err := g.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var sum float64
	for _, f := range families {
		if f.GetName() != "tailfin_gateway_"+name {
			continue
		}
	samples:
		for _, m := range f.GetMetric() {
			for _, l := range labels {
				found := false
				for _, p := range m.GetLabel() {
					found = found || p.GetName()+"="+p.GetValue() == l
				}
				if !found {
					continue samples
				}
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// accessLines are the access lines of a gateway.
type accessLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *accessLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// next waits for one line.
func (l *accessLines) next(t testing.TB) map[string]any {
	t.Helper()
	var line map[string]any
	eventually(t, "an access line", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		b, err := l.buf.ReadBytes('\n')
		if err != nil {
			return false
		}
		if err := json.Unmarshal(b, &line); err != nil {
			t.Error(err)
		}
		return true
	})
	return line
}

// summary is what a line says of the end of a request.
func (l *accessLines) summary(t testing.TB) string {
	line := l.next(t)
	return fmt.Sprint(line["status"], " ", line["class"], " ", line["phase"])
}

func TestUpstreamURL(t *testing.T) {
	for _, tc := range []struct {
		url, scheme, target, authority, problem string
	}{
		{url: "https://example.com", scheme: "https", target: "https://example.com", authority: "example.com:443"},
		{url: "h3://example.com:4433/base/", scheme: "h3", target: "https://example.com:4433/base/", authority: "example.com:4433"},
		{url: "http://[::1]", scheme: "http", target: "http://[::1]", authority: "[::1]:80"},
		{url: "ftp://example.com", problem: "it is none"},
		{url: "example.com", problem: "it is none"},
		{url: "https://", problem: "no host"},
		{url: "https://a,b", problem: "not a list"},
		{url: "https://u:p@example.com", problem: "no user"},
		{url: "https://example.com/?q", problem: "ends with its path"},
		{url: "https://example.com/#f", problem: "ends with its path"},
		{url: "https://example.com/a/../b", problem: "segment of dots"},
		{url: "https://example.com:port", problem: "invalid port"},
	} {
		up, err := parseUpstream(tc.url)
		if tc.problem != "" {
			if err == nil || !strings.Contains(err.Error(), tc.problem) {
				t.Errorf("%s: %v, want %q", tc.url, err, tc.problem)
			}
			continue
		}
		want(t, err, nil)
		want(t, up.scheme, tc.scheme)
		want(t, up.url.String(), tc.target)
		want(t, up.authority(), tc.authority)
	}
	want(t, IsURL("dir:./received"), false)
	want(t, IsURL("h3://localhost"), true)
	_, err := New(Config{Upstream: "dir:x"})
	want(t, err != nil, true)
}
