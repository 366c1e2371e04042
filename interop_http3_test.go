package tailfin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"

	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/udp"
)

const quicGoModule = "github.com/quic-go/quic-go"

// interopTailfin has our client ask our server, the row to compare with.
func interopTailfin(t *testing.T, table *interopTable) {
	c := interopCase{table: table, peer: peer.Program{Name: "tailfin", Version: "this"}, direction: "our client, our server"}
	c.eachReader(t, func(t *testing.T, c interopCase, backend udp.Backend, host string) {
		addr := startServerOn(t, net.JoinHostPort(host, "0"), &Server{Handler: exchangeHandler()}, udp.WithBackend(backend))
		ours := client(t, &Transport{ListenOptions: []udp.Option{udp.WithBackend(backend)}})
		c.run(t, exchangeName, func(t *testing.T) { checkExchange(t, ours, addr) })
		c.run(t, "50 concurrent echoes", func(t *testing.T) { checkConcurrent(t, ours, addr) })
	})
}

const exchangeName = "GET, POST 3 MB, HEAD, trailers, 103, 204, 404"

// checkConcurrent echoes 50 bodies at once.
func checkConcurrent(t *testing.T, c *http.Client, addr string) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			body := peer.Pattern(20_000 + i)
			resp, err := c.Post("https://"+addr+"/echo", "application/octet-stream", bytes.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = resp.Body.Close() }()
			if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, body) {
				t.Errorf("echo of %d bytes: %d, %v", len(body), len(got), err)
			}
		})
	}
	wg.Wait()
}

// interopHTTP3Client has quic-go's own http3 client ask our server.
func interopHTTP3Client(t *testing.T, table *interopTable) {
	c := interopCase{table: table, peer: module("quic-go/http3", quicGoModule), direction: toServer}
	c.eachReader(t, func(t *testing.T, c interopCase, backend udp.Backend, host string) {
		// newClient returns a stock client and how to be rid of it.
		newClient := func(t *testing.T) *http.Client {
			tr := &http3.Transport{TLSClientConfig: clientTLS(t)}
			t.Cleanup(func() { _ = tr.Close() })
			return &http.Client{Transport: tr, Timeout: 30 * time.Second}
		}
		listen := net.JoinHostPort(host, "0")
		addr := startServerOn(t, listen, &Server{Handler: exchangeHandler()}, udp.WithBackend(backend))
		stock := newClient(t)
		c.run(t, exchangeName, func(t *testing.T) { checkExchange(t, stock, addr) })
		c.run(t, "103 with its Link", func(t *testing.T) {
			var hints []string
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
					hints = append(hints, fmt.Sprint(code, header.Get("Link")))
					return nil
				},
			})
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+addr+"/early", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := stock.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if len(hints) != 1 || hints[0] != "103</style.css>; rel=preload" {
				t.Fatalf("hints %q", hints)
			}
		})
		c.run(t, "50 concurrent echoes", func(t *testing.T) { checkConcurrent(t, stock, addr) })
		c.run(t, "GOAWAY by Shutdown, 10 requests at work", func(t *testing.T) {
			const n = 10
			started, release := make(chan struct{}, n), make(chan struct{})
			server := &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				started <- struct{}{}
				<-release
				_, _ = w.Write(peer.Pattern(100_000))
			})}
			addr := startServerOn(t, listen, server, udp.WithBackend(backend))
			stock := newClient(t)
			results := make(chan error, n)
			for range n {
				go func() {
					resp, err := stock.Get("https://" + addr + "/")
					if err != nil {
						results <- err
						return
					}
					defer func() { _ = resp.Body.Close() }()
					body, err := io.ReadAll(resp.Body)
					if err == nil && !bytes.Equal(body, peer.Pattern(100_000)) {
						err = fmt.Errorf("%d bytes", len(body))
					}
					results <- err
				}()
			}
			for range n {
				<-started
			}
			stopped := make(chan error, 1)
			go func() { stopped <- server.Shutdown(context.Background()) }()
			time.AfterFunc(20*time.Millisecond, func() { close(release) }) // GOAWAY goes first
			for range n {
				if err := <-results; err != nil {
					t.Errorf("a request at work was cut off: %v", err)
				}
			}
			if err := <-stopped; err != nil {
				t.Error(err)
			}
		})
	})
}

// interopHTTP3Server has our client ask quic-go's own http3 server.
func interopHTTP3Server(t *testing.T, table *interopTable) {
	c := interopCase{table: table, peer: module("quic-go/http3", quicGoModule), direction: toClient}
	addr := stockServer(t, exchangeHandler())
	closing := newClosingServer(t)
	for _, backend := range backends(t) {
		c.reader = backend.String() + ", IPv4"
		options := []udp.Option{udp.WithBackend(backend)}
		t.Run(backend.String(), func(t *testing.T) {
			ours := client(t, &Transport{ListenOptions: options})
			c.run(t, exchangeName, func(t *testing.T) { checkExchange(t, ours, addr) })
			c.run(t, "50 concurrent echoes", func(t *testing.T) { checkConcurrent(t, ours, addr) })
			c.run(t, "server closes behind its answer, 200 times", func(t *testing.T) {
				tr := newTransport(t, &Transport{ListenOptions: options})
				for i := range 200 {
					req, err := http.NewRequest(http.MethodGet, "https://"+closing+"/bytes/9000", nil)
					if err != nil {
						t.Fatal(err)
					}
					resp, err := tr.RoundTrip(req)
					if err != nil {
						t.Fatalf("request %d: %v", i, err)
					}
					body, err := io.ReadAll(resp.Body)
					_ = resp.Body.Close()
					if err != nil || !bytes.Equal(body, peer.Pattern(9000)) {
						t.Fatalf("request %d: %d of 9000 bytes, %v", i, len(body), err)
					}
					tr.CloseIdleConnections()
				}
			})
		})
	}
}

// newClosingServer is quic-go's http3 server that closes each connection with
// H3_NO_ERROR once the FIN of its first answer was sent. A CloseWithError that
// comes earlier would take the FIN back (quic-go v0.65.0).
func newClosingServer(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var closers sync.WaitGroup
	s := &http3.Server{
		TLSConfig: http3.ConfigureTLSConfig(serverTLS(t)),
		QUICConfig: &quic.Config{Tracer: func(context.Context, bool, quic.ConnectionID) qlogwriter.Trace {
			return &finTrace{sent: make(chan struct{})}
		}},
		ConnContext: func(ctx context.Context, conn *quic.Conn) context.Context {
			if trace, ok := conn.QlogTrace().(*finTrace); ok {
				closers.Go(func() {
					select {
					case <-trace.sent:
						_ = conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
					case <-conn.Context().Done():
					}
				})
			}
			return ctx
		},
		Handler: &requestLog{},
	}
	served := make(chan struct{})
	go func() {
		_ = s.Serve(conn)
		close(served)
	}()
	t.Cleanup(func() {
		_ = s.Close()
		<-served
		closers.Wait()
		_ = conn.Close()
	})
	return conn.LocalAddr().String()
}

// A finTrace tells when the FIN of the first request stream was sent.
type finTrace struct {
	once sync.Once
	sent chan struct{}
}

func (f *finTrace) AddProducer() qlogwriter.Recorder { return f }
func (f *finTrace) Close() error                     { return nil }

func (f *finTrace) RecordEvent(ev qlogwriter.Event) {
	packet, ok := ev.(qlog.PacketSent)
	if !ok {
		return
	}
	for _, frame := range packet.Frames {
		if s, ok := frame.Frame.(*qlog.StreamFrame); ok && s.StreamID == 0 && s.Fin {
			f.once.Do(func() { close(f.sent) })
		}
	}
}

const xnetModule = "golang.org/x/net"

// interopXNetClient receives uploads of golang.org/x/net/quic, which closes
// 10 µs behind its FIN.
func interopXNetClient(t *testing.T, table *interopTable) {
	c := interopCase{table: table, peer: module("x/net/quic", xnetModule), direction: toServer}
	for _, backend := range backends(t) {
		c.reader = backend.String() + ", IPv4"
		t.Run(backend.String(), func(t *testing.T) {
			// More than 9,000 bytes do not fit into its first congestion window,
			// and it takes back what it has not sent when it closes.
			for _, size := range []int{0, 9000} {
				c.run(t, fmt.Sprintf("PUT %d bytes, FIN and close, 10 times", size), func(t *testing.T) {
					const uploads = 10
					got := newCollect()
					addr := startServer(t, &Server{Handler: got}, udp.WithBackend(backend))
					for i := range uploads {
						if err := peer.PutXNet(t.Context(), addr, fmt.Sprintf("/%d", i), peer.Pattern(size), 10*time.Microsecond); err != nil {
							t.Fatal(err)
						}
					}
					got.wait(t, uploads)
					if len(got.whole) != uploads {
						t.Fatalf("%d of %d whole: %v", len(got.whole), uploads, got.errs)
					}
					for path, body := range got.whole {
						wantBody(t, path, []byte(body), peer.Pattern(size))
					}
				})
			}
		})
	}
}

// interopXNetServer has our client ask golang.org/x/net/quic.
func interopXNetServer(t *testing.T, table *interopTable) {
	c := interopCase{table: table, peer: module("x/net/quic", xnetModule), direction: toClient}
	c.eachReader(t, func(t *testing.T, c interopCase, backend udp.Backend, host string) {
		options := []udp.Option{udp.WithBackend(backend)}
		fetch := func(t *testing.T, tr *Transport, addr string, size int) {
			t.Helper()
			req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("https://%s/bytes/%d", addr, size), nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil {
				t.Fatalf("%d of %d bytes: %v", len(body), size, err)
			}
			wantBody(t, "body", body, peer.Pattern(size))
		}
		listen := func(t *testing.T, options peer.XNetOptions) string {
			t.Helper()
			server, err := peer.ListenXNet(net.JoinHostPort(host, "0"), cert(t), options)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = server.Close() })
			return server.Addr()
		}
		c.run(t, "GET 0, 100, 500000 bytes", func(t *testing.T) {
			addr := listen(t, peer.XNetOptions{})
			tr := newTransport(t, &Transport{ListenOptions: options})
			for _, size := range []int{0, 100, 500_000} {
				fetch(t, tr, addr, size)
			}
		})
		for _, size := range []int{1000, 9000, 200_000} {
			c.run(t, fmt.Sprintf("GET %d bytes, FIN and close, 50 times", size), func(t *testing.T) {
				addr := listen(t, peer.XNetOptions{CloseAfterResponse: true, Delay: 10 * time.Microsecond})
				tr := newTransport(t, &Transport{ListenOptions: options})
				for range 50 {
					fetch(t, tr, addr, size)
					tr.CloseIdleConnections()
				}
			})
		}
	})
}
