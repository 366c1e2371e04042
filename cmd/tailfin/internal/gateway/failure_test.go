package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/bench/peer"
)

// closedPort is an address on which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// TestFailures has upstreams that cannot be had, and what shows of it.
func TestFailures(t *testing.T) {
	stop := make(chan struct{})
	slow := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // without, HTTP/1.1 does not see its client leave
		select {
		case <-r.Context().Done():
		case <-stop:
		}
	})
	t.Cleanup(func() { close(stop) })
	for _, tc := range []struct {
		name    string
		conf    func(t *testing.T) Config
		status  int
		proxy   string
		summary string
	}{
		{"nobody listens, TCP", func(t *testing.T) Config { return Config{Upstream: "http://" + closedPort(t)} },
			502, "connection_refused", "502 dial-refused before-wire"},
		{"nobody listens, UDP", func(t *testing.T) Config {
			return Config{Upstream: "h3://" + closedPort(t), DialTimeout: 200 * time.Millisecond}
		}, 504, "connection_timeout", "504 dial-timeout before-wire"},
		{"no such host", func(*testing.T) Config { return Config{Upstream: "http://no-such-host.invalid"} },
			502, "dns_error", "502 dial-other before-wire"},
		{"a certificate of nobody's", func(t *testing.T) Config {
			up := serveHTTP3(t, "127.0.0.1:0", &tailfin.Server{Handler: slow})
			conf := clientTLS(t)
			conf.RootCAs = nil
			return Config{Upstream: "h3://" + up, TLS: conf}
		}, 502, "tls_certificate_error", "502 dial-handshake before-wire"},
		{"no answer, h3", func(t *testing.T) Config {
			return Config{Upstream: "h3://" + serveHTTP3(t, "127.0.0.1:0", &tailfin.Server{Handler: slow}), HeaderTimeout: 50 * time.Millisecond}
		}, 504, "http_response_timeout", "504 header-timeout headers"},
		{"no answer, TCP", func(t *testing.T) Config {
			return Config{Upstream: serveTCP(t, slow, false), HeaderTimeout: 50 * time.Millisecond}
		}, 504, "http_response_timeout", "504 header-timeout headers"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conf := tc.conf(t)
			conf.BreakerFailures, conf.BreakerOpenFor = 2, time.Minute
			g := startGateway(t, conf)
			for range 2 {
				resp, _ := g.mustDo(t, http.MethodPost, "/", bytes.NewReader(peer.Pattern(10)))
				want(t, resp.StatusCode, tc.status)
				want(t, strings.Contains(resp.Header.Get("Proxy-Status"), "error="+tc.proxy), true)
				want(t, g.lines.summary(t), tc.summary)
			}
			resp, _ := g.mustDo(t, http.MethodGet, "/", nil)
			want(t, resp.StatusCode, http.StatusServiceUnavailable)
			want(t, resp.Header.Get("Retry-After"), "60")
			want(t, g.metric(t, "breaker_state", "state=open"), 1)
			want(t, g.Check(t.Context()) != nil, true)
		})
	}
}

// TestRefused has requests that are not forwarded.
func TestRefused(t *testing.T) {
	asked := make(chan string, 10)
	up := serveTCP(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		asked <- r.RequestURI
	}), false)
	g := startGateway(t, Config{Upstream: up + "/base", MaxBody: 1000})
	for _, tc := range []struct {
		method, path string
		body         io.Reader
		via          string
		status       int
	}{
		{http.MethodGet, "/a/../b", nil, "", 400},
		{http.MethodGet, "/a/%2e%2E/b", nil, "", 400},
		{http.MethodGet, "/..%2fb", nil, "", 400},
		{http.MethodGet, "/..%5cb", nil, "", 400},
		{http.MethodGet, "/..;x/b", nil, "", 400},
		{http.MethodGet, "/%00", nil, "", 400},
		{http.MethodPost, "/", bytes.NewReader(peer.Pattern(1001)), "", 413},
		{http.MethodPost, "/", struct{ io.Reader }{bytes.NewReader(peer.Pattern(100_000))}, "", 413},
		{http.MethodGet, "/", nil, "1.1 other, 3.0 " + g.pseudonym, 508},
	} {
		resp, _ := g.mustDo(t, tc.method, tc.path, tc.body, "Via", tc.via)
		want(t, fmt.Sprint(tc.path, " ", resp.StatusCode), fmt.Sprint(tc.path, " ", tc.status))
		want(t, resp.Header.Get("Proxy-Status") != "", true)
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodConnect, "https://"+g.addr, http.NoBody)
	resp, err := g.client.Transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	want(t, resp.StatusCode, http.StatusNotImplemented)
	for len(asked) > 0 {
		want(t, <-asked, "/base/") // the body that was too long only shows on the way
	}
	resp, _ = g.mustDo(t, http.MethodGet, "/a..b/...", nil)
	want(t, resp.StatusCode, 200)
	want(t, <-asked, "/base/a..b/...")
}

// TestLoop has a gateway that is its own upstream.
func TestLoop(t *testing.T) {
	addr := closedPort(t)
	g := startGatewayOn(t, addr, Config{Upstream: "h3://" + addr})
	resp, _ := g.mustDo(t, http.MethodGet, "/", nil)
	want(t, resp.StatusCode, http.StatusLoopDetected)
}

// TestHostileSlowUpstream has 32 clients with large bodies at an upstream that does not
// read: flow control stops them, and the heap does not grow with what they have.
func TestHostileSlowUpstream(t *testing.T) {
	const clients, size, bound = 32, 8 << 20, 64 << 20
	for _, up := range upstreams {
		t.Run(up.name, func(t *testing.T) {
			release := make(chan struct{})
			var asked atomic.Int32
			g := startGateway(t, Config{Upstream: up.start(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				asked.Add(1)
				<-release
			}))})
			before := heap()
			ctx, leave := context.WithCancel(t.Context())
			var sent atomic.Int64
			var wg sync.WaitGroup
			for range clients {
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url("/"), countedReader{io.LimitReader(zeros{}, size), &sent})
				if err != nil {
					t.Fatal(err)
				}
				wg.Go(func() {
					if resp, err := g.client.Do(req); err == nil {
						_ = resp.Body.Close()
					}
				})
			}
			eventually(t, "the upstream has them all", func() bool { return asked.Load() == clients })
			settled(&sent)
			grown := heap() - before
			t.Logf("%d clients with %d MiB each have sent %d KiB each: the heap has grown by %d MiB, of which %d KiB are kept to be sent again",
				clients, size>>20, sent.Load()/clients>>10, grown>>20, g.replay.Held()>>10)
			want(t, grown < bound, true)
			held := g.replay.Held()
			want(t, held <= tailfin.DefaultReplayTotal, true)
			leave()
			close(release)
			wg.Wait()
			eventually(t, "nothing is kept", func() bool { return g.replay.Held() == 0 })
			hostile.Result{
				Kind: "peer", Fault: fmt.Sprintf("an upstream that does not read, %d clients with %d MiB each, %s", clients, size>>20, up.name), Tries: clients,
				Leaked: int(g.replay.Held()),
				Bound:  fmt.Sprintf("heap grown by %d MiB (%d); tailfin_gateway_replay_held_bytes %d (%d)", max(grown, 0)>>20, bound>>20, held, tailfin.DefaultReplayTotal),
			}.Report(t)
		})
	}
}

// heap is the bytes in use, of the gateway and, here, of both its peers.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}
