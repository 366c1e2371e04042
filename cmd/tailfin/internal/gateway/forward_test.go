package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/bench/peer"
)

// upstreams are the ways to an upstream with the same handler.
var upstreams = []struct {
	name, protocol string
	start          func(t *testing.T, h http.Handler) string
}{
	{"h3", "h3", func(t *testing.T, h http.Handler) string {
		return "h3://" + serveHTTP3(t, "127.0.0.1:0", &tailfin.Server{Handler: h})
	}},
	{"h2", "h2", func(t *testing.T, h http.Handler) string { return serveTCP(t, h, true) }},
	{"http11", "http/1.1", func(t *testing.T, h http.Handler) string { return serveTCP(t, h, false) }},
}

// serveTCP serves HTTP/2 over TLS, or HTTP/1.1 without.
func serveTCP(t *testing.T, h http.Handler, overTLS bool) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = nil
	t.Cleanup(s.Close)
	if !overTLS {
		s.Start()
		return s.URL
	}
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert(t)}, MinVersion: tls.VersionTLS12}
	s.StartTLS()
	return s.URL
}

// eachUpstream runs a test over each way.
func eachUpstream(t *testing.T, h http.Handler, conf Config, test func(t *testing.T, g *testGateway, protocol string)) {
	for _, up := range upstreams {
		t.Run(up.name, func(t *testing.T) {
			conf := conf
			conf.Upstream = up.start(t, h) + "/base"
			test(t, startGateway(t, conf), up.protocol)
		})
	}
}

// TestForward looks at a request as the upstream gets it, and at the answer.
func TestForward(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Alt-Svc", `h3=":1"`)
		w.Header().Set("Connection", "X-Hop")
		w.Header().Set("X-Hop", "1")
		w.Header()["Content-Type"] = nil
		w.Header().Set("Trailer", "X-Sum")
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, "%s %s host=%v for=%v fwd=%v realip=%q proxy=%q hop=%q via=%v body=%d trailer=%q", r.Method, r.RequestURI,
			strings.HasPrefix(r.Host, "127.0.0.1:"), r.Header["X-Forwarded-For"], len(r.Header["Forwarded"]), r.Header.Get("X-Real-Ip"), r.Header.Get("Proxy"),
			r.Header.Get("X-Under-Test"), len(r.Header["Via"]), len(body), r.Trailer.Get("X-Client-Sum"))
		w.Header().Set("X-Sum", "41")
		w.Header().Set(http.TrailerPrefix+"X-Late", "42")
	})
	eachUpstream(t, h, Config{}, func(t *testing.T, g *testGateway, protocol string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.url("/a%2Fb/c?q=1;2"), struct{ io.Reader }{bytes.NewReader(peer.Pattern(5000))})
		if err != nil {
			t.Fatal(err)
		}
		req.Trailer = http.Header{"X-Client-Sum": {"7"}}
		req.Header.Set("X-Forwarded-For", "9.9.9.9")
		req.Header.Set("X-Forwarded-Proto", "gopher")
		req.Header.Set("X-Real-IP", "9.9.9.9")
		req.Header.Set("Proxy", "http://9.9.9.9")
		req.Header.Set("Forwarded", "for=9.9.9.9")
		resp, err := g.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		want(t, err, nil)
		want(t, resp.StatusCode, http.StatusAccepted)
		want(t, string(b), `POST /base/a%2Fb/c?q=1;2 host=true for=[127.0.0.1] fwd=1 realip="" proxy="" hop="" via=1 body=5000 trailer="7"`)
		for _, name := range []string{"Alt-Svc", "X-Hop", "Connection", "Content-Type"} {
			if name == "X-Hop" && protocol == "h2" {
				continue // its server has left out Connection, and not what that names
			}
			want(t, resp.Header.Get(name), "")
		}
		want(t, resp.Trailer.Get("X-Sum"), "41")
		want(t, resp.Trailer.Get("X-Late"), "42")
		line := g.lines.next(t)
		want(t, fmt.Sprint(line["status"], line["upstream"], line["class"]), "202"+protocol+"success")
		want(t, g.metric(t, "requests_total", "code=202", "protocol="+protocol, "class=success"), 1)
		want(t, g.metric(t, "body_bytes_total", "direction=upstream"), 5000)
		want(t, g.Check(t.Context()), nil)
		if protocol == "h2" { // https:// without HTTP/3
			want(t, g.metric(t, "fallbacks_total"), 1)
			want(t, g.metric(t, "http3_capability", "state=unsupported"), 1)
		}
	})
}

// TestForwardTrailer has a client announce trailers that are not for it to send. They
// neither reach the upstream nor speak against it.
func TestForwardTrailer(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, r.Trailer)
	})
	eachUpstream(t, h, Config{BreakerFailures: 2}, func(t *testing.T, g *testGateway, _ string) {
		for range 3 {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", struct{ io.Reader }{strings.NewReader("abc")})
			r.Trailer = http.Header{
				"Content-Length": {"1"}, "Transfer-Encoding": nil, "No Token": nil, "X_forwarded_for": {"9.9.9.9"}, "Forwarded": {"for=9.9.9.9"}, "X-Sum": {"7"},
			}
			w := httptest.NewRecorder()
			g.ServeHTTP(w, r)
			want(t, w.Code, 200)
			want(t, w.Body.String(), "map[X-Sum:[7]]")
		}
	})
}

// TestForwardBodiless has answers that have no body, whatever their length says.
func TestForwardBodiless(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/base/304":
			w.Header().Set("Etag", `"x"`)
			w.WriteHeader(http.StatusNotModified)
		case "/base/204":
			w.WriteHeader(http.StatusNoContent)
		default:
			w.Header().Set("Content-Length", "5")
			_, _ = io.WriteString(w, "hello")
		}
	})
	eachUpstream(t, h, Config{}, func(t *testing.T, g *testGateway, _ string) {
		resp, body := g.mustDo(t, http.MethodHead, "/", nil)
		want(t, fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Content-Length"), body), "200 5")
		resp, body = g.mustDo(t, http.MethodGet, "/304", nil)
		want(t, fmt.Sprint(resp.StatusCode, resp.Header.Get("Etag"), body), `304"x"`)
		resp, body = g.mustDo(t, http.MethodGet, "/204", nil)
		want(t, fmt.Sprint(resp.StatusCode, body), "204")
		resp, body = g.mustDo(t, http.MethodGet, "/", nil)
		want(t, fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Content-Length"), body), "200 5hello")
	})
}

// TestForwardFullDuplex answers each line before the next is sent, and has an
// interim response ahead.
func TestForwardFullDuplex(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		w.Header().Set("Link", "</style.css>")
		w.Header().Set("Alt-Svc", `h3=":1"`)
		w.WriteHeader(http.StatusEarlyHints)
		_ = rc.Flush()
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			fmt.Fprintf(w, "echo %s\n", lines.Text())
			_ = rc.Flush()
		}
	})
	eachUpstream(t, h, Config{}, func(t *testing.T, g *testGateway, _ string) {
		in, out := io.Pipe()
		var hints atomic.Value
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hints.Store(fmt.Sprint(code, h.Get("Link"), h.Get("Alt-Svc")))
			return nil
		}})
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url("/"), in)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.WriteString(out, "0\n") }()
		resp, err := g.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		want(t, hints.Load(), any("103</style.css>"))
		answers := bufio.NewReader(resp.Body)
		for i := range 5 {
			line, err := answers.ReadString('\n')
			want(t, err, nil)
			want(t, line, fmt.Sprintf("echo %d\n", i))
			if i < 4 {
				_, _ = fmt.Fprintf(out, "%d\n", i+1)
			}
		}
		_ = out.Close()
		_, err = answers.ReadString('\n')
		want(t, err, io.EOF)
	})
}

// TestForwardExpect asks for leave to send a body.
func TestForwardExpect(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/base/no" {
			w.WriteHeader(http.StatusExpectationFailed)
			return
		}
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	})
	eachUpstream(t, h, Config{}, func(t *testing.T, g *testGateway, _ string) {
		tr := newTransport(t)
		tr.ExpectContinueTimeout = time.Minute
		g.client.Transport = tr
		resp, body := g.mustDo(t, http.MethodPut, "/yes", bytes.NewReader(peer.Pattern(3000)), "Expect", "100-continue")
		want(t, fmt.Sprint(resp.StatusCode, body), "2003000")
		resp, _ = g.mustDo(t, http.MethodPut, "/no", bytes.NewReader(peer.Pattern(3000)), "Expect", "100-continue")
		want(t, resp.StatusCode, http.StatusExpectationFailed)
	})
}

// TestForwardCutAnswer must not end in good order what the upstream has cut short.
func TestForwardCutAnswer(t *testing.T) {
	arrived := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/base/length" {
			w.Header().Set("Content-Length", "1000")
		}
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		<-arrived // a reset would overtake it
		panic(http.ErrAbortHandler)
	})
	eachUpstream(t, h, Config{BreakerFailures: 100}, func(t *testing.T, g *testGateway, _ string) {
		for _, path := range []string{"/", "/length"} {
			resp, err := g.client.Get(g.url(path))
			if err != nil {
				t.Fatal(err)
			}
			half := make([]byte, 4)
			_, err = io.ReadFull(resp.Body, half)
			want(t, err, nil)
			arrived <- struct{}{}
			_, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			var reset *tailfin.StreamReset
			want(t, errors.As(err, &reset), true)
			line := g.lines.next(t)
			want(t, fmt.Sprint(line["level"], line["phase"], line["err"] != nil), "WARNbodytrue")
		}
	})
}

// TestForwardCancel ends a request at the upstream when the client leaves, before
// and behind the header section, and counts nothing against the upstream.
func TestForwardCancel(t *testing.T) {
	ended := make(chan struct{}, 1)
	began := make(chan struct{}, 1)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/base/body" {
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
		}
		began <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
	})
	eachUpstream(t, h, Config{BreakerFailures: 1}, func(t *testing.T, g *testGateway, _ string) {
		for _, path := range []string{"/head", "/body"} {
			ctx, cancel := context.WithCancel(t.Context())
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, g.url(path), nil)
			go func() { <-began; cancel() }()
			resp, err := g.client.Do(req)
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				_ = resp.Body.Close()
			}
			want(t, err != nil, true)
			<-ended
			line := g.lines.next(t)
			want(t, line["class"], any("cancelled"))
		}
		want(t, g.metric(t, "breaker_state", "state=closed"), 1)
	})
}

// TestForwardCutRequest has a client that resets its request in the middle.
func TestForwardCutRequest(t *testing.T) {
	ended, began := make(chan error, 1), make(chan struct{}, 1)
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		_, err := io.Copy(io.Discard, r.Body)
		ended <- err
	})
	eachUpstream(t, h, Config{BreakerFailures: 1}, func(t *testing.T, g *testGateway, _ string) {
		in, out := io.Pipe()
		go func() {
			_, _ = out.Write(peer.Pattern(100_000))
			<-began
			_ = out.CloseWithError(errors.New("no more"))
		}()
		_, _, err := g.do(t, http.MethodPost, "/", in)
		want(t, err != nil, true)
		want(t, <-ended != nil, true)
		line := g.lines.next(t)
		status, _ := line["status"].(float64)
		want(t, status == http.StatusBadRequest || status == statusClientGone, true)
		want(t, g.metric(t, "breaker_state", "state=closed"), 1)
	})
}

// TestFallsBackWithBody has an upstream of which UDP port nothing answers, and keeps
// to HTTP/2 after.
func TestFallsBackWithBody(t *testing.T) {
	up := serveTCP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, r.Proto, n)
	}), true)
	silent, err := net.ListenPacket("udp", strings.TrimPrefix(up, "https://"))
	if err != nil {
		t.Skipf("the UDP port of the same number is taken: %v", err)
	}
	defer silent.Close()
	g := startGateway(t, Config{Upstream: up, DialTimeout: 300 * time.Millisecond})
	for range 2 {
		_, body := g.mustDo(t, http.MethodPost, "/", bytes.NewReader(peer.Pattern(200_000)))
		want(t, body, "HTTP/2.0200000")
	}
	want(t, g.metric(t, "fallbacks_total"), 1)
}
