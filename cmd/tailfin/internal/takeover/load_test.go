package takeover

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin"
)

// A load is clients at work.
type load struct {
	t    *testing.T
	addr string
	stop atomic.Bool
	wg   sync.WaitGroup

	requests, uploads, failed atomic.Int64

	mu        sync.Mutex
	latencies []time.Duration
	byGen     map[int]int
}

// startLoad has small requests one after the other on kept connections, the same on
// a new connection each, and uploads that take two seconds.
func startLoad(t *testing.T, addr string, kept, fresh, uploads int) *load {
	l := &load{t: t, addr: addr, byGen: make(map[int]int)}
	small, large := bytes.Repeat([]byte("small"), 400), bytes.Repeat([]byte("large body "), 60_000)
	for range kept {
		tr := newClient(t)
		l.wg.Go(func() {
			for !l.stop.Load() {
				l.do(tr, small, 0)
			}
		})
	}
	for range fresh {
		l.wg.Go(func() {
			for !l.stop.Load() {
				tr := newClient(t)
				l.do(tr, small, 0)
				_ = tr.Close()
			}
		})
	}
	for range uploads {
		tr := newClient(t)
		l.wg.Go(func() {
			for !l.stop.Load() {
				l.do(tr, large, 50*time.Millisecond)
			}
		})
	}
	return l
}

func (l *load) do(tr *tailfin.Transport, body []byte, pause time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	start := time.Now()
	gen, err := put(ctx, tr, l.addr, body, pause)
	took := time.Since(start)
	if err != nil {
		l.failed.Add(1)
		l.t.Errorf("after %v: %v", took, err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.byGen[gen]++
	if pause > 0 {
		l.uploads.Add(1)
		return
	}
	l.requests.Add(1)
	l.latencies = append(l.latencies, took)
}

// end waits for what is under way, and says what there was.
func (l *load) end() string {
	l.stop.Store(true)
	l.wg.Wait()
	slices.Sort(l.latencies)
	n := len(l.latencies)
	if n == 0 {
		l.t.Fatal("no request")
	}
	return fmt.Sprintf("%d requests, %d uploads, %d failed; latency p50 %v p99 %v p99.9 %v longest %v",
		n, l.uploads.Load(), l.failed.Load(), l.latencies[n/2].Round(time.Microsecond), l.latencies[n*99/100].Round(time.Microsecond),
		l.latencies[n*999/1000].Round(time.Microsecond), l.latencies[n-1].Round(time.Microsecond))
}

// modes are the ways datagrams get to the right instance.
func modes(t *testing.T, f func(t *testing.T, s settings)) {
	for _, shards := range []int{1, 2} {
		for _, steering := range []bool{true, false} {
			t.Run(fmt.Sprintf("shards=%d,steering=%v", shards, steering), func(t *testing.T) {
				f(t, settings{Address: "127.0.0.1:0", Shards: shards, Steering: steering})
			})
		}
	}
}

// TestHandOverUnderLoad hands over again and again, and no client notices.
func TestHandOverUnderLoad(t *testing.T) {
	modes(t, func(t *testing.T, s settings) {
		handovers := 4
		switch {
		case testing.Short():
			handovers = 2
		case s.Shards > 1 && !s.Steering: // where most is forwarded
			handovers = 10
		}
		p := start(t, s)
		s.Address, s.Takeover = p.addr, true
		l := startLoad(t, p.addr, 6, 2, 4)
		all := []*process{p}
		for range handovers {
			next := start(t, s)
			if want := (p.generation + 1) % 256; next.generation != want {
				t.Errorf("generation %d, want %d", next.generation, want)
			}
			p.expect("superseded")
			p = next
			all = append(all, p)
		}
		said := l.end()
		for _, p := range all[:len(all)-1] {
			p.ended()
		}
		_ = p.stdin.Close()
		p.ended()
		total := make(map[string]float64)
		for _, p := range all {
			for name, n := range p.counts {
				total[name] += n
			}
			if l.byGen[p.generation] == 0 {
				t.Errorf("nothing was answered by generation %d", p.generation)
			}
		}
		if got := total["handovers_total old"]; got != float64(handovers) {
			t.Errorf("%v hand-overs were counted, want %d", got, handovers)
		}
		t.Logf("%d hand-overs, %s; steers %v; %v", handovers, said, p.steers, total)
	})
}
