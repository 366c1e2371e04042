package tailfin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/udp"
)

// backends are those that can be asked for by name here.
func backends(t *testing.T) []udp.Backend {
	list := []udp.Backend{udp.Mmsg}
	conn, err := udp.Listen("udp", "127.0.0.1:0", udp.WithBackend(udp.Uring))
	if err != nil {
		t.Logf("without io_uring: %v", err)
		return list
	}
	_ = conn.Close()
	return append(list, udp.Uring)
}

// collect is a handler that remembers the bodies that came whole, by path.
type collect struct {
	mu    sync.Mutex
	whole map[string]string
	errs  []error
	got   chan struct{} // one element a request that ended
}

func newCollect() *collect {
	return &collect{whole: make(map[string]string), got: make(chan struct{}, 10_000)}
}

func (c *collect) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	c.mu.Lock()
	if err != nil {
		c.errs = append(c.errs, err)
	} else {
		c.whole[r.URL.Path] = string(body)
	}
	c.mu.Unlock()
	c.got <- struct{}{}
}

// wait waits until n requests have ended.
func (c *collect) wait(t *testing.T, n int) {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for i := range n {
		select {
		case <-c.got:
		case <-timeout:
			t.Fatalf("%d of %d requests arrived", i, n)
		}
	}
}

// withProcs runs f at each GOMAXPROCS: with one, a reader never runs beside
// the run loop.
func withProcs(t *testing.T, f func(t *testing.T)) {
	for _, n := range []int{1, 2} {
		t.Run(fmt.Sprintf("procs=%d", n), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(n))
			f(t)
		})
	}
}

// TestXNetServerClosesAtOnce fetches from a foreign server that sends
// HEADERS, DATA and FIN, and closes right behind them.
func TestXNetServerClosesAtOnce(t *testing.T) {
	server, err := peer.ListenXNet("127.0.0.1:0", cert(t), peer.XNetOptions{CloseAfterResponse: true, Delay: 10 * time.Microsecond})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	// All sizes fit x/net/quic's first congestion window: what it has not sent
	// when it closes, nobody can receive.
	for _, size := range []int{0, 1000, 9000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			withProcs(t, func(t *testing.T) {
				for range 30 {
					tr := newTransport(t, &Transport{})
					req, _ := http.NewRequest(http.MethodGet, fmt.Sprintf("https://%s/bytes/%d", server.Addr(), size), nil)
					resp, err := tr.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					body, err := io.ReadAll(resp.Body)
					if err != nil || !bytes.Equal(body, peer.Pattern(size)) {
						t.Fatalf("%d of %d bytes: %v", len(body), size, err)
					}
					_ = tr.Close()
				}
			})
		})
	}
}

// TestXNetClientClosesAtOnce receives uploads of a foreign client that closes
// right behind its FIN.
func TestXNetClientClosesAtOnce(t *testing.T) {
	for _, backend := range backends(t) {
		t.Run(backend.String(), func(t *testing.T) {
			withProcs(t, func(t *testing.T) {
				got := newCollect()
				addr := startServer(t, &Server{Handler: got}, udp.WithBackend(backend))
				body := peer.Pattern(9000)
				const uploads = 30
				for i := range uploads {
					if err := peer.PutXNet(t.Context(), addr, fmt.Sprintf("/%d", i), body, 10*time.Microsecond); err != nil {
						t.Fatal(err)
					}
				}
				got.wait(t, uploads)
				if len(got.whole) != uploads {
					t.Fatalf("%d of %d uploads whole: %v", len(got.whole), uploads, got.errs)
				}
				for path, b := range got.whole {
					if b != string(body) {
						t.Fatalf("%s: %d bytes differ from what was sent", path, len(b))
					}
				}
			})
		})
	}
}

// TestSendAndClose is the same with our own client, which closes the moment
// that the FIN was packed.
func TestSendAndClose(t *testing.T) {
	for _, backend := range backends(t) {
		t.Run(backend.String(), func(t *testing.T) {
			withProcs(t, func(t *testing.T) {
				got := newCollect()
				server := &Server{Handler: got}
				addr := startServer(t, server, udp.WithBackend(backend))
				tr := newTransport(t, &Transport{})
				body := peer.Pattern(9000)
				const uploads = 50
				for i := range uploads {
					req, _ := http.NewRequest(http.MethodPut, fmt.Sprintf("https://%s/%d", addr, i), bytes.NewReader(body))
					if err := tr.SendAndClose(req); err != nil {
						t.Fatal(err)
					}
				}
				got.wait(t, uploads)
				if len(got.whole) != uploads {
					t.Fatalf("%d of %d uploads whole: %v", len(got.whole), uploads, got.errs)
				}
				// The close of the last upload may still be on its way.
				if stats := server.DrainStats(); stats.TimedOut != 0 || stats.Closes < uploads-1 {
					t.Fatalf("barrier: %+v", stats)
				}
			})
		})
	}
}

// TestSlowReaderAtClose has a handler that starts to read long after the
// client has gone.
func TestSlowReaderAtClose(t *testing.T) {
	for _, size := range []int{9000, 200_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			gone := make(chan struct{})
			type result struct {
				sum [32]byte
				err error
				ctx error
			}
			results := make(chan result, 1)
			addr := startServer(t, &Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				<-gone
				h := sha256.New()
				_, err := io.Copy(h, r.Body)
				results <- result{[32]byte(h.Sum(nil)), err, r.Context().Err()}
			})})
			tr := newTransport(t, &Transport{})
			body := peer.Pattern(size)
			req, _ := http.NewRequest(http.MethodPut, "https://"+addr+"/slow", bytes.NewReader(body))
			if err := tr.SendAndClose(req); err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(300*time.Millisecond, func() { close(gone) })
			r := <-results
			if r.err != nil || r.sum != sha256.Sum256(body) {
				t.Fatalf("body not whole: %v", r.err)
			}
			if r.ctx != nil {
				t.Fatalf("the context of a request that arrived whole ended: %v", r.ctx)
			}
		})
	}
}

// TestWithoutDrainLoses proves that the race occurs here: without it the tests
// above would show nothing.
func TestWithoutDrainLoses(t *testing.T) {
	server, err := peer.ListenXNet("127.0.0.1:0", cert(t), peer.XNetOptions{CloseAfterResponse: true, Delay: 10 * time.Microsecond})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	lost := 0
	for i := 0; i < 300 && lost == 0; i++ {
		tr := &Transport{TLSClientConfig: clientTLS(t), Logger: quietLog, DisableDrain: true}
		req, _ := http.NewRequest(http.MethodGet, "https://"+server.Addr()+"/bytes/9000", nil)
		resp, err := tr.RoundTrip(req)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
		}
		if err != nil {
			lost++
			var graceful *GracefulClose
			if !errors.As(err, &graceful) {
				t.Fatalf("lost with %v, want a GracefulClose in it", err)
			}
		}
		_ = tr.Close()
	}
	if lost == 0 {
		t.Fatal("300 answers without a loss: the close race does not occur, so the tests of the drain prove nothing")
	}
}

// stockServer is a quic-go/http3 server on loopback.
func stockServer(t *testing.T, h http.Handler) string {
	t.Helper()
	conn, err := udp.Listen("udp", "127.0.0.1:0", udp.WithBackend(udp.Mmsg))
	if err != nil {
		t.Fatal(err)
	}
	s := &http3.Server{TLSConfig: http3.ConfigureTLSConfig(serverTLS(t)), Handler: h}
	done := make(chan error, 1)
	go func() { done <- s.Serve(conn) }()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
		_ = conn.Close()
	})
	return conn.LocalAddr().String()
}

// exchange is the handler and the checks of plain interop.
func exchangeHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Method", r.Method)
		w.Header()["X-Many"] = []string{"a", "b"}
		w.Header().Set("Trailer", "X-Sum")
		h := sha256.New()
		_, _ = io.Copy(io.MultiWriter(w, h), r.Body)
		w.Header().Set("X-Sum", fmt.Sprintf("%x", h.Sum(nil)))
	})
	mux.HandleFunc("GET /none", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /early", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.WriteString(w, "after hints")
	})
	mux.HandleFunc("GET /query", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%s|%s|%s|%s", r.Host, r.URL.Query().Get("q"), r.Header.Get("Cookie"), r.Proto)
	})
	return mux
}

func checkExchange(t *testing.T, c *http.Client, addr string) {
	t.Helper()
	base := "https://" + addr
	for _, size := range []int{0, 1, 5000, 3 << 20} {
		body := peer.Pattern(size)
		resp, err := c.Post(base+"/echo", "application/octet-stream", bytes.NewReader(body))
		if err != nil {
			t.Fatalf("echo of %d bytes: %v", size, err)
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || !bytes.Equal(got, body) {
			t.Fatalf("echo of %d bytes: got %d, %v", size, len(got), err)
		}
		if sum := fmt.Sprintf("%x", sha256.Sum256(body)); resp.Trailer.Get("X-Sum") != sum {
			t.Fatalf("trailer X-Sum = %q, want %q", resp.Trailer.Get("X-Sum"), sum)
		}
		if resp.Header.Get("X-Method") != "POST" || strings.Join(resp.Header.Values("X-Many"), ",") != "a,b" {
			t.Fatalf("header %v", resp.Header)
		}
	}
	get := func(path string, header http.Header) (*http.Response, string) {
		req, _ := http.NewRequest(http.MethodGet, base+path, nil)
		if header != nil {
			req.Header = header
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatalf("GET %s: %v", path, err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("GET %s: %v", path, err)
		}
		return resp, string(b)
	}
	if resp, body := get("/none", nil); resp.StatusCode != http.StatusNoContent || body != "" {
		t.Fatalf("/none: %s %q", resp.Status, body)
	}
	if resp, body := get("/early", nil); resp.StatusCode != http.StatusOK || body != "after hints" {
		t.Fatalf("/early: %s %q", resp.Status, body)
	}
	if resp, _ := get("/absent", nil); resp.StatusCode != http.StatusNotFound {
		t.Fatalf("/absent: %s", resp.Status)
	}
	_, body := get("/query?q=a%20b", http.Header{"Cookie": {"a=1; b=2"}})
	if want := addr + "|a b|a=1; b=2|HTTP/3.0"; body != want {
		t.Fatalf("/query: %q, want %q", body, want)
	}
	resp, err := c.Head(base + "/query")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("HEAD: %v %v", resp, err)
	}
	_ = resp.Body.Close()
}

func TestShutdownFinishesRequests(t *testing.T) {
	started := make(chan struct{})
	release := make(chan struct{})
	server := &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(started)
		<-release
		_, _ = w.Write(peer.Pattern(300_000))
	})}
	addr := startServer(t, server)
	c := client(t, &Transport{DialTimeout: 300 * time.Millisecond})
	type result struct {
		body []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		resp, err := c.Get("https://" + addr + "/")
		if err != nil {
			done <- result{nil, err}
			return
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		done <- result{body, err}
	}()
	<-started
	stopped := make(chan error, 1)
	go func() { stopped <- server.Shutdown(context.Background()) }()
	time.AfterFunc(50*time.Millisecond, func() { close(release) })
	r := <-done
	if r.err != nil || !bytes.Equal(r.body, peer.Pattern(300_000)) {
		t.Fatalf("a request at work was cut off by Shutdown: %d bytes, %v", len(r.body), r.err)
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get("https://" + addr + "/"); err == nil {
		t.Fatal("a server that was shut down answers")
	}
}
