package tailfin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/bench/peer"
)

// TestLearnCloses posts from several goroutines to peers that answer some requests
// on a connection and close it, without a GOAWAY. No request may fail, and none may
// be sent twice.
func TestLearnCloses(t *testing.T) {
	requests := hostile.Size(100, 400)
	if testing.Short() {
		requests = 60
	}
	for _, tc := range []struct {
		name  string
		dial  func(ctx context.Context, addr string, tlsConf *tls.Config, conf *quic.Config) (*quic.Conn, error)
		start func(t *testing.T) string
	}{
		// The peer tells connections apart by the ports of their clients.
		{"x/net/quic, 1 a connection", func(ctx context.Context, addr string, tlsConf *tls.Config, conf *quic.Config) (*quic.Conn, error) {
			return quic.DialAddr(ctx, addr, tlsConf, conf)
		}, func(t *testing.T) string {
			server, err := peer.ListenXNet("127.0.0.1:0", cert(t), peer.XNetOptions{CloseAfterResponse: true, Delay: 10 * time.Microsecond})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = server.Close() })
			return server.Addr()
		}},
		{"quic-go, 1 a connection", nil, func(t *testing.T) string { return sumThenClose(t, 1) }},
	} {
		for _, workers := range []int{1, 8} {
			t.Run(fmt.Sprintf("%s, %d at a time", tc.name, workers), func(t *testing.T) {
				addr := tc.start(t)
				tr := newTransport(t, &Transport{LearnCloses: true, MaxConnsPerHost: 16, Dial: tc.dial})
				postAll(t, tr, addr, requests, workers)
				want(t, tr.connLimit(addr), 1)
			})
		}
	}
}

// postAll posts bodies to /sum and checks what comes back.
func postAll(t *testing.T, tr *Transport, addr string, requests, workers int) {
	t.Helper()
	replay := &Replay{Next: tr}
	var next atomic.Int32
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := int(next.Add(1)); i <= requests; i = int(next.Add(1)) {
				body := peer.Pattern(1 + i*37%5000)
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+addr+"/sum", io.NopCloser(bytes.NewReader(body)))
				resp, err := replay.RoundTrip(req)
				if err != nil {
					t.Errorf("request %d: %v", i, err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || string(got) != sumOf(body) {
					t.Errorf("request %d: %q for %d bytes, %v", i, got, len(body), err)
				}
			}
		})
	}
	wg.Wait()
	eventually(t, "nothing is kept", func() bool { return replay.Held() == 0 })
}

// sumThenClose is a quic-go server that closes with H3_NO_ERROR as soon as the
// packet with the FIN of the n-th answer on a connection was packed.
func sumThenClose(t *testing.T, n int32) string {
	var counters drainCounters
	conf := drainOptions{counters: &counters}.install(&quic.Config{})
	var mu sync.Mutex
	answers := map[*quic.Conn]int32{}
	return newRawPeer(t, rawPeerOptions{quic: conf, answer: func(c *rawPeerConn, s *quic.Stream) {
		body := sumOf([]byte(bodyOf(s)))
		sent := c.QlogTrace().(*barrier).watchEnd(s.StreamID())
		finish(s, reply(body))
		select {
		case <-sent:
		case <-c.Context().Done():
		}
		mu.Lock()
		answers[c.Conn]++
		last := answers[c.Conn] == n
		if last {
			delete(answers, c.Conn)
		}
		mu.Unlock()
		if last {
			_ = c.CloseWithError(0x100, "")
		}
	}}).addr
}

// TestLearnsFromSurvivors starts with one request a connection, and goes on with
// one connection once it has outlived its answer; and back, when the peer changes.
func TestLearnsFromSurvivors(t *testing.T) {
	var conns atomic.Int32
	p := newRawPeer(t, rawPeerOptions{answer: func(_ *rawPeerConn, s *quic.Stream) {
		body := sumOf([]byte(bodyOf(s)))
		if s.StreamID() == 0 {
			conns.Add(1)
		}
		finish(s, reply(body))
	}})
	tr := newTransport(t, &Transport{LearnCloses: true, MaxConnsPerHost: 4})
	postAll(t, tr, p.addr, 20, 4)
	eventually(t, "a connection outlives its answer", func() bool { return tr.connLimit(p.addr) == 0 })
	before := conns.Load()
	want(t, before >= 4, true)
	postAll(t, tr, p.addr, 40, 4)
	want(t, conns.Load() <= before+1, true) // the probe went back to the pool, if there was room
	tr.CloseIdleConnections()
}

// TestLearnsLimit has a peer that closes behind its third answer.
func TestLearnsLimit(t *testing.T) {
	addr := sumThenClose(t, 3)
	tr := newTransport(t, &Transport{LearnCloses: true, MaxConnsPerHost: 4})
	postAll(t, tr, addr, 1, 1)
	eventually(t, "a connection outlives its answer", func() bool { return tr.connLimit(addr) == 0 })
	postAll(t, tr, addr, 2, 1) // which ends that connection
	eventually(t, "the limit is learned", func() bool { return tr.connLimit(addr) == 3 })
	postAll(t, tr, addr, 100, 4)
	want(t, tr.connLimit(addr), 3)
}

// TestLearnClosesAtTheBound has a request that waits for room, until there is some
// and until the end of the transport.
func TestLearnClosesAtTheBound(t *testing.T) {
	for _, closes := range []bool{false, true} {
		release := make(chan struct{})
		addr := newRawPeer(t, rawPeerOptions{answer: func(c *rawPeerConn, s *quic.Stream) {
			body := bodyOf(s)
			select {
			case <-release:
			case <-c.Context().Done():
			}
			finish(s, reply(body))
		}}).addr
		tr := newTransport(t, &Transport{LearnCloses: true})
		ended := make(chan error, 2)
		go func() { _, err := fetchFrom(t.Context(), tr, addr, "/"); ended <- err }()
		eventually(t, "the first request is under way", func() bool { c := connOf(tr); return c != nil && c.carried.Load() })
		go func() { _, err := fetchFrom(t.Context(), tr, addr, "/"); ended <- err }()
		eventually(t, "the second waits", func() bool {
			tr.mu.Lock()
			defer tr.mu.Unlock()
			h := tr.hosts[addr]
			return h != nil && h.waiting != nil
		})
		if closes {
			_ = tr.Close()
			a, b := <-ended, <-ended
			want(t, errors.Is(a, ErrTransportClosed) || errors.Is(b, ErrTransportClosed), true)
			continue
		}
		close(release)
		want(t, <-ended, nil)
		want(t, <-ended, nil)
	}
}

func sumOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// bodyOf reads a request and returns its body.
func bodyOf(s *quic.Stream) string {
	var body []byte
	src := requestSource(s)
	defer src.release()
	for {
		ev, err := src.next()
		if err != nil {
			return string(body)
		}
		body = append(body, ev.Body...)
	}
}
