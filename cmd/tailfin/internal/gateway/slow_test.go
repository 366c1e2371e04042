package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/bench/hostile"
)

// A countedReader counts what was read of it.
type countedReader struct {
	io.Reader
	n *atomic.Int64
}

func (r countedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.n.Add(int64(n))
	return n, err
}

// settled waits until a count has stopped to grow.
func settled(n *atomic.Int64) {
	for last := int64(-1); n.Load() != last; time.Sleep(200 * time.Millisecond) {
		last = n.Load()
	}
}

// TestWaitingUploads has 32 uploads on one connection of a client, and two connections
// to the upstream: the uploads that wait for one of these must leave credit to the two
// that have one.
func TestWaitingUploads(t *testing.T) {
	const uploads, size = 32, 256 << 10
	for _, up := range upstreams {
		if up.protocol == "h2" {
			continue // which shares a connection at once
		}
		t.Run(up.name, func(t *testing.T) {
			release := make(chan struct{})
			g := startGateway(t, Config{MaxConns: 2, Upstream: up.start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				<-release
				n, _ := io.Copy(io.Discard, r.Body)
				fmt.Fprint(w, n)
			}))})
			var sent atomic.Int64
			var wg sync.WaitGroup
			for range uploads {
				wg.Go(func() {
					body := countedReader{io.LimitReader(zeros{}, size), &sent}
					_, got, err := g.do(t, http.MethodPost, "/", body)
					want(t, err, nil)
					want(t, got, fmt.Sprint(size))
				})
			}
			eventually(t, "all are under way", func() bool { return g.metric(t, "requests_in_flight") == uploads })
			settled(&sent)
			close(release)
			wg.Wait()
		})
	}
}

// zeros is a reader without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestHostileSlowClients has a client that asks for much and reads none of it. Its answers
// come over the connection to the upstream that those of others come over, who must
// get theirs; and what is kept for it is bounded.
func TestHostileSlowClients(t *testing.T) {
	const answers, size, bound = 24, 16 << 20, 72 << 20
	// Long before a connection is silent for so long that what arrived is taken off it,
	// which gives credit as well, the others' requests have failed.
	calm := &quic.Config{MaxIdleTimeout: 10 * time.Minute, HandshakeIdleTimeout: time.Minute}
	const patience = time.Minute
	for _, up := range upstreams[:2] {
		t.Run(up.name, func(t *testing.T) {
			if up.protocol == "h3" {
				up.start = func(t *testing.T, h http.Handler) string {
					return "h3://" + serveHTTP3(t, "127.0.0.1:0", &tailfin.Server{Handler: h, QUICConfig: calm})
				}
			}
			var asked atomic.Int32
			var written atomic.Int64
			g := startGateway(t, Config{QUIC: calm, Upstream: up.start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/small" {
					fmt.Fprint(w, "small")
					return
				}
				asked.Add(1)
				_, _ = io.Copy(w, countedReader{io.LimitReader(zeros{}, size), &written})
			}))})
			// One connection for all: an upstream that is not known yet gets one a request.
			eventually(t, "a connection is shared", func() bool {
				g.mustDo(t, http.MethodGet, "/small", nil)
				return g.metric(t, "tries_total", "connection=reused") > 0
			})
			before := heap()
			slow := &http.Client{Transport: newTransport(t)}
			ctx, leave := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			defer wg.Wait()
			defer leave()
			for range answers {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url("/large"), http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				wg.Go(func() {
					if resp, err := slow.Do(req); err == nil {
						<-ctx.Done()
						_ = resp.Body.Close()
					}
				})
			}
			eventually(t, "the upstream works at all of them", func() bool { return asked.Load() == answers })
			settled(&written)
			grown := heap() - before
			t.Logf("%d answers of %d MiB that nobody reads: the heap has grown by %d MiB", answers, size>>20, grown>>20)
			want(t, grown < bound, true)
			g.client.Timeout = patience
			slowly := hostile.Result{Kind: "client", Fault: fmt.Sprintf("a client that reads none of its %d answers of %d MiB, %s", answers, size>>20, up.name), Tries: answers}
			for range 10 {
				if _, got := g.mustDo(t, http.MethodGet, "/small", nil); got != "small" {
					slowly.Lost++
				}
			}
			// Else it was not in spite of them.
			want(t, g.metric(t, "requests_in_flight"), answers)
			slowly.Bound = fmt.Sprintf("heap grown by %d MiB (%d), 10 answers to another client meanwhile; tailfin_gateway_requests_in_flight %d", max(grown, 0)>>20, bound>>20, answers)
			slowly.Report(t)
		})
	}
}
