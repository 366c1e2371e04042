package tailfin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"

	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/udp"
)

// maxForeign bounds one run of a foreign program.
const maxForeign = time.Minute

// wireEvents counts what cannot be told from requests: it is an embedder's
// tracer, below the barrier.
type wireEvents struct {
	keyUpdates, pathResponses atomic.Int32
}

var (
	_ qlogwriter.Trace    = (*wireEvents)(nil)
	_ qlogwriter.Recorder = (*wireEvents)(nil)
)

func (e *wireEvents) config() *quic.Config {
	return &quic.Config{Tracer: func(context.Context, bool, quic.ConnectionID) qlogwriter.Trace { return e }}
}

func (e *wireEvents) AddProducer() qlogwriter.Recorder { return e }
func (e *wireEvents) Close() error                     { return nil }

func (e *wireEvents) RecordEvent(ev qlogwriter.Event) {
	switch ev := ev.(type) {
	case qlog.KeyUpdated:
		if ev.Trigger == qlog.KeyUpdateRemote {
			e.keyUpdates.Add(1)
		}
	case qlog.PacketReceived:
		for _, f := range ev.Frames {
			if _, ok := f.Frame.(*qlog.PathResponseFrame); ok {
				e.pathResponses.Add(1)
			}
		}
	}
}

// interopNGTCP2Client has ngtcp2's client ask our server.
func interopNGTCP2Client(t *testing.T, table *interopTable) {
	p := program(t, table, peer.NGTCP2Client)
	interopCase{table: table, peer: p, direction: toServer}.eachReader(t, func(t *testing.T, c interopCase, backend udp.Backend, host string) {
		log, events := &requestLog{}, &wireEvents{}
		addr := startServerOn(t, net.JoinHostPort(host, "0"), &Server{Handler: log, QUICConfig: events.config()}, udp.WithBackend(backend))

		// fetch runs the client and returns the files it has stored.
		fetch := func(t *testing.T, options []string, paths ...string) (func(name string) []byte, string) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), maxForeign)
			defer cancel()
			dir := t.TempDir()
			log.take()
			said, err := peer.GetNGTCP2(ctx, p, addr, append([]string{"--download=" + dir}, options...), paths...)
			if err != nil {
				t.Fatal(err)
			}
			return func(name string) []byte {
				b, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil {
					t.Fatalf("%v; the client said: %s", err, said)
				}
				return b
			}, said
		}

		sizes := func(options ...string) func(t *testing.T) {
			return func(t *testing.T) {
				file, _ := fetch(t, options, "/bytes/0", "/bytes/1", "/bytes/1200", "/bytes/1000000")
				for _, size := range []int{0, 1, 1200, 1_000_000} {
					wantBody(t, fmt.Sprint(size), file(strconv.Itoa(size)), peer.Pattern(size))
				}
			}
		}
		c.run(t, "GET 0, 1, 1200 bytes, 1 MB", sizes())
		c.run(t, "200 requests on one connection", func(t *testing.T) {
			paths := make([]string, 200)
			for i := range paths {
				paths[i] = "/bytes/" + strconv.Itoa(1000+i)
			}
			file, _ := fetch(t, nil, paths...)
			for i := range paths {
				wantBody(t, paths[i], file(strconv.Itoa(1000+i)), peer.Pattern(1000+i))
			}
			requests := log.take()
			want(t, len(requests), len(paths))
			for _, r := range requests {
				want(t, r.Peer, requests[0].Peer)
			}
		})
		c.run(t, "POST 1 MB, echoed", func(t *testing.T) {
			body := peer.Pattern(1_000_000)
			name := filepath.Join(t.TempDir(), "body")
			if err := os.WriteFile(name, body, 0o600); err != nil {
				t.Fatal(err)
			}
			file, _ := fetch(t, []string{"--http-method=POST", "--data=" + name}, "/echo")
			wantBody(t, "echo", file("echo"), body)
		})
		if host == "::1" {
			return // the rest has nothing to do with addresses
		}
		c.run(t, "HEAD, missing file", func(t *testing.T) {
			fetch(t, []string{"--http-method=HEAD"}, "/bytes/5000", "/absent")
			requests := log.take()
			want(t, len(requests), 2)
			want(t, requests[0].Method, http.MethodHead)
		})
		c.run(t, "key update", func(t *testing.T) {
			before := events.keyUpdates.Load()
			file, _ := fetch(t, []string{"--key-update=1ms"}, "/bytes/5000000")
			wantBody(t, "body", file("5000000"), peer.Pattern(5_000_000))
			if events.keyUpdates.Load() == before {
				t.Fatal("the client has updated no key")
			}
		})
		c.run(t, "connection migration", func(t *testing.T) {
			before := events.pathResponses.Load()
			file, _ := fetch(t, []string{"--change-local-addr=1ms"}, "/bytes/5000000")
			wantBody(t, "body", file("5000000"), peer.Pattern(5_000_000))
			if events.pathResponses.Load() == before {
				t.Fatal("the server has validated no path")
			}
		})
		c.run(t, "version negotiation", func(t *testing.T) {
			// A version reserved to force negotiation (RFC 9000 §15).
			file, said := fetch(t, []string{"--version=0x1a2a3a4a", "--preferred-versions=v1"}, "/bytes/1200")
			wantBody(t, "body", file("1200"), peer.Pattern(1200))
			if !strings.Contains(said, "VERSION_NEGOTIATION") {
				t.Fatalf("no version was negotiated; the client said: %s", said)
			}
		})
		c.run(t, "session resumption", func(t *testing.T) {
			dir := t.TempDir()
			options := []string{"--session-file=" + filepath.Join(dir, "session"), "--tp-file=" + filepath.Join(dir, "parameters"), "--disable-early-data"}
			// The ticket must have come before the answer has, so ask for much.
			fetch(t, options, "/bytes/1000000")
			file, _ := fetch(t, options, "/bytes/1200")
			wantBody(t, "body", file("1200"), peer.Pattern(1200))
			if requests := log.take(); len(requests) != 1 || !requests[0].Resumed {
				t.Fatalf("the session was not resumed: %+v", requests)
			}
		})
		c.run(t, "ChaCha20-Poly1305", sizes("--ciphers=NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305"))
		c.run(t, "empty connection ID", sizes("--scid="))
		c.run(t, "windows of 16 and 32 kB", sizes("--max-stream-data-bidi-local=16K", "--max-data=32K", "--max-stream-window=16K", "--max-window=32K"))
		c.run(t, "2% loss each way", sizes("--tx-loss=0.02", "--rx-loss=0.02", "--initial-rtt=20ms"))
	})
}

// interopNGTCP2Server has our client ask ngtcp2's server.
func interopNGTCP2Server(t *testing.T, table *interopTable) {
	p := program(t, table, peer.NGTCP2Server)
	htdocs := t.TempDir()
	// Version 0.12.1 answers an empty file with 404. A name that is a number
	// asks for as many bytes of the server's own.
	sizes := []int{1, 1200, 1_000_000, 10_000_000}
	for _, size := range sizes {
		if err := os.WriteFile(filepath.Join(htdocs, fmt.Sprintf("file-%d", size)), peer.Pattern(size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	start := func(t *testing.T, host string, options ...string) string {
		t.Helper()
		server, err := peer.StartNGTCP2(p, host, htdocs, cert(t), options...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = server.Close()
			if t.Failed() {
				t.Logf("the server said: %s", server.Output())
			}
		})
		return "https://" + server.Addr()
	}
	interopCase{table: table, peer: p, direction: toClient}.eachReader(t, func(t *testing.T, c interopCase, backend udp.Backend, host string) {
		base := start(t, host)
		ours := client(t, &Transport{ListenOptions: []udp.Option{udp.WithBackend(backend)}})
		ours.Timeout = maxForeign
		// fetch wants status 200.
		fetch := func(t *testing.T, url string) ([]byte, http.Header) {
			t.Helper()
			resp, err := ours.Get(url)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("GET %s: %s, %d bytes, %v", url, resp.Status, len(body), err)
			}
			return body, resp.Trailer
		}
		all := func(options ...string) func(t *testing.T) {
			return func(t *testing.T) {
				base := base
				if len(options) > 0 {
					base = start(t, host, options...)
				}
				empty, _ := fetch(t, base+"/0")
				wantBody(t, "0", empty, nil)
				for _, size := range sizes {
					body, _ := fetch(t, fmt.Sprintf("%s/file-%d", base, size))
					wantBody(t, fmt.Sprint(size), body, peer.Pattern(size))
				}
			}
		}
		c.run(t, "GET 0, 1, 1200 bytes, 1 MB, 10 MB", all())
		if host == "::1" {
			return // the rest has nothing to do with addresses
		}
		c.run(t, "20 concurrent", func(t *testing.T) {
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					resp, err := ours.Get(base + "/file-1000000")
					if err != nil {
						t.Error(err)
						return
					}
					defer func() { _ = resp.Body.Close() }()
					if body, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(body, peer.Pattern(1_000_000)) {
						t.Errorf("%d bytes, %v", len(body), err)
					}
				})
			}
			wg.Wait()
		})
		c.run(t, "HEAD", func(t *testing.T) {
			resp, err := ours.Head(base + "/file-1200")
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || len(body) != 0 || resp.StatusCode != http.StatusOK || resp.ContentLength != 1200 {
				t.Fatalf("%s, length %d, %d bytes, %v", resp.Status, resp.ContentLength, len(body), err)
			}
		})
		c.run(t, "missing file", func(t *testing.T) {
			resp, err := ours.Get(base + "/absent")
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusNotFound || !bytes.Contains(body, []byte("404")) {
				t.Fatalf("%s, %q, %v", resp.Status, body, err)
			}
		})
		c.run(t, "POST 1 MB", func(t *testing.T) {
			resp, err := ours.Post(base+"/file-1200", "application/octet-stream", bytes.NewReader(peer.Pattern(1_000_000)))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("%s, %d bytes, %v", resp.Status, len(body), err)
			}
			wantBody(t, "answer", body, peer.Pattern(1200))
		})
		c.run(t, "retry", all("--validate-addr"))
		c.run(t, "trailers", func(t *testing.T) {
			body, trailer := fetch(t, start(t, host, "--send-trailers")+"/file-1200")
			wantBody(t, "body", body, peer.Pattern(1200))
			if len(trailer) == 0 {
				t.Fatal("no trailer")
			}
		})
		c.run(t, "2% loss each way", all("--tx-loss=0.02", "--rx-loss=0.02", "--initial-rtt=20ms"))
	})
}
