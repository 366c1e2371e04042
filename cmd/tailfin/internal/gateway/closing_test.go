package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/h3frame"
)

// requestCount is how many requests TestTenThousand sends to each kind of upstream,
// of which there are four.
func requestCount(t *testing.T) int {
	if v := os.Getenv("TAILFIN_GATEWAY_REQUESTS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if testing.Short() {
		return 40
	}
	return 250
}

// TestTenThousand forwards requests to upstreams that close the connection behind
// each answer: 0 × 502, every body whole that came whole off the wire. TAILFIN_GATEWAY_REQUESTS=10000 is the long run.
func TestTenThousand(t *testing.T) {
	requests := requestCount(t)
	for _, up := range []struct {
		name  string
		start func(t *testing.T) (conf Config)
		sums  bool // it answers for bodies
	}{
		{"x-net-quic, 10 µs behind the FIN", closingXNet, true},
		{"one packet has STREAM, FIN and CLOSE", closingBurst, false},
		{"quic-go, 1 ms behind the FIN", func(t *testing.T) Config { return closingQUIC(t, time.Millisecond, false) }, true},
		{"quic-go, GOAWAY ahead of the answer", func(t *testing.T) Config { return closingQUIC(t, 0, true) }, true},
	} {
		for _, clients := range []int{1, 16} {
			t.Run(fmt.Sprintf("%s, %d clients", up.name, clients), func(t *testing.T) {
				conf, arrived := up.start(t), &arrivals{}
				conf.QUIC = &quic.Config{Tracer: arrived.trace}
				g := startGateway(t, conf)
				var next, failed atomic.Int32
				start := time.Now()
				var wg sync.WaitGroup
				for range clients {
					client := &http.Client{Transport: newTransport(t)}
					wg.Go(func() {
						for i := int(next.Add(1)); i <= requests/2; i = int(next.Add(1)) {
							if err := g.exchange(t, client, i, up.sums); err != nil {
								t.Logf("request %d: %v", i, err)
								failed.Add(1)
							}
						}
					})
				}
				wg.Wait()
				total := g.metric(t, "requests_total")
				// A datagram that a full socket drops on a loaded machine is not sent
				// again behind a close: nobody could save that one.
				conns := g.metric(t, "tries_total", "connection=new")
				lost := int32(conns) - arrived.whole()
				t.Logf("%.0f requests in %v: %.0f × 200, %.0f × 502; %.0f connections, of which %d lost part of the answer on the wire, %.0f retries; %d failed",
					total, time.Since(start).Round(time.Millisecond), g.metric(t, "requests_total", "code=200"),
					g.metric(t, "requests_total", "code=502"), conns, lost, g.metric(t, "retries_total"), failed.Load())
				want(t, total, float64(requests/2))
				want(t, failed.Load() <= lost, true)
				want(t, g.metric(t, "requests_total", "code=200") >= float64(requests/2)-float64(lost), true)
				want(t, lost <= int32(requests/8), true) // or it would show little
				want(t, g.metric(t, "breaker_state", "state=closed"), 1)
				eventually(t, "no body is kept", func() bool { return g.replay.Held() == 0 })
			})
		}
	}
}

// answerBody bounds the bodies of answers, in bytes.
const answerBody = 100_000

// exchange sends the i-th request: a GET, or a POST of 1 to 100 kB.
func (g *testGateway) exchange(t *testing.T, client *http.Client, i int, sums bool) error {
	size := i * 7919 % answerBody
	wanted := peer.Pattern(size)
	method, path, body := http.MethodGet, fmt.Sprintf("/bytes/%d", size), io.Reader(nil)
	if i%3 != 0 {
		sent := peer.Pattern(1000 + i*7919%99_000)
		method, path, wanted = http.MethodPost, "/sum", sumOf(sent)
		body = struct{ io.Reader }{bytes.NewReader(sent)} // of which no length is known
		if i%2 == 0 {
			body = bytes.NewReader(sent)
		}
	}
	if !sums {
		wanted = peer.Pattern(burstBody)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, g.url(path), body)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %s %s", resp.Status, got, resp.Header.Get("Proxy-Status"))
	case !bytes.Equal(got, wanted):
		return fmt.Errorf("%s %s: %d bytes are not the %d wanted", method, path, len(got), len(wanted))
	}
	return nil
}

func closingXNet(t *testing.T) Config {
	server, err := peer.ListenXNet("127.0.0.1:0", cert(t), peer.XNetOptions{CloseAfterResponse: true, Delay: 10 * time.Microsecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	// The peer tells connections apart by the ports of their clients.
	return Config{Upstream: "h3://" + server.Addr(), Dial: dialAlone}
}

// dialAlone makes a connection from a socket of its own.
func dialAlone(ctx context.Context, addr string, tlsConf *tls.Config, quicConf *quic.Config) (*quic.Conn, error) {
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, err
	}
	socket, err := net.ListenUDP("udp", nil)
	if err != nil {
		return nil, err
	}
	tr := &quic.Transport{Conn: socket}
	end := func() {
		_ = tr.Close()
		_ = socket.Close()
	}
	conn, err := tr.Dial(ctx, to, tlsConf, quicConf)
	if err != nil {
		end()
		return nil, err
	}
	context.AfterFunc(conn.Context(), end)
	return conn, nil
}

// burstBody fits into one packet with all that is about it.
const burstBody = 700

// closingBurst has a server of its own for each connection.
func closingBurst(t *testing.T) Config {
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() { stop(); wg.Wait() })
	return Config{
		Upstream: "h3://localhost:1",
		Dial: func(dial context.Context, _ string, tlsConf *tls.Config, quicConf *quic.Config) (*quic.Conn, error) {
			ln, err := peer.ListenBurst(cert(t))
			if err != nil {
				return nil, err
			}
			wg.Go(func() {
				defer ln.Close()
				b, ids, err := ln.Accept(ctx, 1)
				if err == nil {
					err = b.Send([]peer.Message{peer.ResponseMessage(ids[0], peer.Pattern(burstBody))}, peer.Close{Code: uint64(h3frame.ErrCodeNoError)})
				}
				if err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			})
			return dialAlone(dial, ln.Addr(), tlsConf, quicConf)
		},
	}
}

// closingQUIC is a quic-go server that closes so long after the packet with the FIN
// of its first answer was packed.
func closingQUIC(t *testing.T, delay time.Duration, goAway bool) Config {
	server, err := peer.ListenClosing(cert(t), peer.ClosingOptions{Delay: delay, GoAway: goAway})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return Config{Upstream: "h3://" + server.Addr()}
}

func sumOf(body []byte) []byte {
	sum := sha256.Sum256(body)
	return []byte(hex.EncodeToString(sum[:]))
}
