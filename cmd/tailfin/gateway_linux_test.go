package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
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

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/devcert"
)

// upstreamCert is a certificate, and a file by which it is trusted.
func upstreamCert(t *testing.T) (cert tls.Certificate, caFile string) {
	t.Helper()
	cert, err := devcert.New()
	if err != nil {
		t.Fatal(err)
	}
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(caFile, devcert.PEM(cert), 0o600); err != nil {
		t.Fatal(err)
	}
	return cert, caFile
}

// TestGatewayToReceiver has one daemon forward to another.
func TestGatewayToReceiver(t *testing.T) {
	t.Parallel()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	up := serve(t, "--cacert-out", ca)
	for _, scheme := range []string{"h3", "https"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			front := serveObserved(t, "--sink", scheme+"://"+up.addr, "--upstream-ca", ca)
			url := "https://" + front.addr + "/" + scheme
			file, sum := writeFile(t, 3<<20)
			if r := runTailfin(t, "put", file, url, "--insecure"); r.code != exitOK || !strings.Contains(r.stdout, "201") {
				t.Fatalf("put: %+v", r)
			}
			if r := runTailfin(t, "get", url, "--insecure", "--json"); r.code != exitOK || !strings.Contains(r.stdout, sum) {
				t.Fatalf("get: %+v", r)
			}
			stored, err := os.ReadFile(filepath.Join(up.dir, scheme))
			if got := sha256.Sum256(stored); err != nil || hex.EncodeToString(got[:]) != sum {
				t.Errorf("%d other bytes are stored, %v", len(stored), err)
			}
			tr := newTransport(t)
			a := wantStatus(t, tr, http.StatusPartialContent, "GET", url, nil, "Range", "bytes=1000-1999")
			if !bytes.Equal(a.body, stored[1000:2000]) || a.Header.Get("Content-Range") != fmt.Sprintf("bytes 1000-1999/%d", 3<<20) {
				t.Errorf("a range: %d bytes, %v", len(a.body), a.Header)
			}
			a = wantStatus(t, tr, http.StatusOK, "HEAD", url, nil)
			if a.ContentLength != 3<<20 {
				t.Errorf("HEAD: length %d", a.ContentLength)
			}
			wantStatus(t, tr, http.StatusNotFound, "GET", url+"-absent", nil)
			wantStatus(t, tr, http.StatusBadRequest, "PUT", "https://"+front.addr+"/.hidden", strings.NewReader("x"))
			if a = wantStatus(t, tr, http.StatusOK, "POST", "https://"+front.addr+"/echo", unsized("echo")); string(a.body) != "echo" {
				t.Errorf("echo: %q", a.body)
			}
			if got := front.metric(t, "tailfin_gateway_requests_total", "code=201", "protocol=h3"); got != 1 {
				t.Errorf("%v uploads over HTTP/3, want 1", got)
			}
			front.stop(t)
		})
	}
}

// TestGatewayTrailers sends trailers both ways.
func TestGatewayTrailers(t *testing.T) {
	t.Parallel()
	cert, ca := upstreamCert(t)
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	up := &tailfin.Server{TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		n, _ := io.Copy(w, r.Body)
		w.Header().Set("X-Sum", fmt.Sprint(n, " ", r.Trailer.Get("X-Asked")))
	})}
	go func() { _ = up.Serve(socket) }()
	t.Cleanup(func() { _ = up.Close(); _ = socket.Close() })
	front := serve(t, "--sink", "h3://"+socket.LocalAddr().String(), "--upstream-ca", ca)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+front.addr+"/x", unsized("body"))
	if err != nil {
		t.Fatal(err)
	}
	req.Trailer = http.Header{"X-Asked": {"yes"}}
	resp, err := newTransport(t).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "body" || resp.Trailer.Get("X-Sum") != "4 yes" {
		t.Errorf("%s %q, trailers %v, %v", resp.Status, body, resp.Trailer, err)
	}
}

// gatewayRequests is how many TestGatewayToClosingPeers sends through each daemon.
func gatewayRequests(t *testing.T) int {
	if v := os.Getenv("TAILFIN_GATEWAY_REQUESTS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 200
}

// TestGatewayToClosingPeers has upstreams that close the connection behind each
// answer: 0 × 502, and every body whole. TAILFIN_GATEWAY_REQUESTS=10000 is the long run.
func TestGatewayToClosingPeers(t *testing.T) {
	t.Parallel()
	requests := gatewayRequests(t)
	for _, tc := range []struct {
		name    string
		clients int
		start   func(t *testing.T, cert tls.Certificate) (addr string)
	}{
		// The peer tells connections apart by the ports of their clients, and all of the
		// gateway's come from one.
		{"x-net-quic, one client", 1, closingXNet},
		{"quic-go, 8 clients", 8, closingQUIC},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cert, ca := upstreamCert(t)
			front := serveObserved(t, "--sink", "h3://"+tc.start(t, cert), "--upstream-ca", ca, "--access-log", "errors")
			var next, failed atomic.Int32
			var wg sync.WaitGroup
			for range tc.clients {
				tr := newTransport(t)
				wg.Go(func() {
					for i := int(next.Add(1)); i <= requests && failed.Load() < 10; i = int(next.Add(1)) {
						if err := closingExchange(t, tr, "https://"+front.addr, i); err != nil {
							t.Errorf("request %d: %v", i, err)
							failed.Add(1)
						}
					}
				})
			}
			wg.Wait()
			if got := front.metric(t, "tailfin_gateway_requests_total"); got != float64(requests) {
				t.Errorf("%v requests were forwarded, want %d", got, requests)
			}
			if got := front.metric(t, "tailfin_gateway_requests_total", "code=200"); got != float64(requests) {
				t.Errorf("%v requests were answered 200, want %d:\n%s", got, requests, front.log)
			}
			t.Logf("%d requests, 0 × 502: %v connections, %v retries, %v bytes saved at closes", requests,
				front.metric(t, "tailfin_gateway_tries_total", "connection=new"), front.metric(t, "tailfin_gateway_retries_total"),
				front.metric(t, "tailfin_gateway_drain_saved_bytes_total"))
		})
	}
}

// closingExchange sends the i-th request: GET, PUT and POST in turn.
func closingExchange(t *testing.T, tr *tailfin.Transport, url string, i int) error {
	size := 1 + i*7919%9000
	want := peer.Pattern(size)
	var (
		a   answer
		err error
	)
	if i%3 == 0 {
		a, err = send(t, tr, "GET", fmt.Sprintf("%s/bytes/%d", url, size), nil)
	} else {
		sum := sha256.Sum256(want)
		a, err = send(t, tr, []string{"PUT", "POST"}[i%2], url+"/sum", bytes.NewReader(want))
		want = []byte(hex.EncodeToString(sum[:]))
	}
	switch {
	case err != nil:
		return err
	case a.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %s %s", a.Status, a.body, a.Header.Get("Proxy-Status"))
	case !bytes.Equal(a.body, want):
		return fmt.Errorf("%d bytes are not the %d wanted", len(a.body), len(want))
	}
	return nil
}

func closingXNet(t *testing.T, cert tls.Certificate) string {
	server, err := peer.ListenXNet("127.0.0.1:0", cert, peer.XNetOptions{CloseAfterResponse: true, Delay: 10 * time.Microsecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return server.Addr()
}

// closingQUIC is a quic-go server that closes as soon as the packet with the FIN of
// its first answer is packed.
func closingQUIC(t *testing.T, cert tls.Certificate) string {
	server, err := peer.ListenClosing(cert, peer.ClosingOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return server.Addr()
}

// TestGatewayUpstreamDown kills the upstream, and brings it back.
func TestGatewayUpstreamDown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePair(t, certFile, keyFile)
	up := serve(t, "--cert", certFile, "--key", keyFile)
	front := serveObserved(t, "--sink", "h3://"+up.addr, "--upstream-ca", certFile)
	tr, url := newTransport(t), "https://"+front.addr+"/x"
	wantStatus(t, tr, http.StatusCreated, "PUT", url, strings.NewReader("before"))
	front.waitReady(t, http.StatusOK)
	if err := up.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-up.done
	// All at once, since each takes the time in which an upstream may be silent.
	var bad atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				a, err := send(t, tr, "PUT", url, strings.NewReader("down"))
				switch {
				case err != nil:
					t.Error(err)
					return
				case a.StatusCode == http.StatusBadGateway, a.StatusCode == http.StatusGatewayTimeout:
					bad.Add(1)
				case a.StatusCode == http.StatusServiceUnavailable:
					return // the circuit is open
				default:
					t.Errorf("upstream down: %s %s", a.Status, a.body)
				}
			}
			t.Error("the circuit does not open")
		})
	}
	wg.Wait()
	reason := front.waitReady(t, http.StatusServiceUnavailable)
	if !strings.Contains(reason, "circuit") {
		t.Errorf("/readyz does not say why: %s", reason)
	}
	front.waitMetric(t, 0, "tailfin_sink_check_ok")
	if bad.Load() == 0 {
		t.Error("the circuit opened before any failure")
	}
	serve(t, "--listen", up.addr, "--sink", "dir:"+up.dir, "--cert", certFile, "--key", keyFile)
	eventually(t, "uploads pass again", func() bool {
		a, err := send(t, tr, "PUT", url, strings.NewReader("after"))
		if err != nil {
			t.Fatal(err)
		}
		return a.StatusCode == http.StatusCreated
	})
	front.waitReady(t, http.StatusOK)
	if text, err := os.ReadFile(filepath.Join(up.dir, "x")); err != nil || string(text) != "after" {
		t.Errorf("stored: %q, %v", text, err)
	}
	front.waitLog(t, "takes uploads again")
}
