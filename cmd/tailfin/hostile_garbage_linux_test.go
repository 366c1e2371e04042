package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/devcert"
)

// A barrage is a number of uploads to a daemon, with garbage beside them or without.
type barrage struct {
	uploads  int
	size     int           // of each, in bytes
	lasts    time.Duration // that an upload takes: its bytes come evenly
	datagram int           // of garbage; 0 for none
	corpus   [][]byte      // that it is made of
	seed     uint64

	lost, corrupt int
	sent          time.Duration // that the garbage took
	cpu           time.Duration // of the daemon's process, from its start to its end
	dropped       float64       // by the kernel
	counted       string        // what the daemon counts of it
	left          int           // connections, handshakes, goroutines and files; -1 if not asked for
}

// barrageConns is how many connections the uploads share.
const barrageConns = 10

// run starts a daemon and does it all. With settle it waits until all have left.
func (b *barrage) run(t *testing.T, settle bool) {
	t.Helper()
	d := serveObserved(t, "--body-timeout=0s") // bodies wait for the garbage, however long it takes
	goroutines := d.warm(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	over := make(chan struct{}) // the garbage was sent
	var begun, done sync.WaitGroup
	var lost, corrupt atomic.Int64
	var clients []*tailfin.Transport
	for range barrageConns {
		c := newTransport(t)
		wantStatus(t, c, http.StatusOK, "GET", "https://"+d.addr+"/bytes/1", nil) // connected before anything else comes
		clients = append(clients, c)
	}
	start := make(chan time.Time)
	for i := range b.uploads {
		begun.Add(1)
		done.Go(func() {
			body := peer.Numbered(uint64(i), b.size)
			paced := &pacedBody{rest: body, size: b.size, lasts: b.lasts, start: start, begun: begun.Done, over: over}
			name := fmt.Sprintf("upload-%d", i)
			if err := put(ctx, clients[i%len(clients)], "https://"+d.addr+"/"+name, paced, b.size); err != nil {
				if lost.Add(1) <= 3 {
					t.Logf("upload %d: %v", i, err)
				}
				return
			}
			sum := sha256.Sum256(body)
			if got, err := sumOfFile(filepath.Join(d.dir, name)); err != nil {
				lost.Add(1)
			} else if got != hex.EncodeToString(sum[:]) {
				corrupt.Add(1)
			}
		})
	}
	begun.Wait()
	now := time.Now()
	for range b.uploads {
		start <- now
	}
	b.throw(t, d.addr)
	close(over)
	done.Wait()
	b.lost, b.corrupt = int(lost.Load()), int(corrupt.Load())
	stray, conns := d.metric(t, "tailfin_server_stray_packets_total"), d.metric(t, "tailfin_server_dropped_packets_total")
	b.counted = fmt.Sprintf("tailfin_server_stray_packets_total %.0f, tailfin_server_dropped_packets_total %.0f, tailfin_limits_retries_total %.0f",
		stray, conns, d.metric(t, "tailfin_limits_retries_total"))
	b.dropped = d.metric(t, "tailfin_udp_kernel_drops_total")
	if b.datagram > 0 && stray == 0 {
		t.Error("no garbage is counted")
	}
	for _, c := range clients {
		_ = c.Close()
	}
	if settle {
		b.left = d.left(t, goroutines) + d.unfinished(t)
	}
	state := d.stop(t)
	b.cpu = state.UserTime() + state.SystemTime()
	if err := os.RemoveAll(d.dir); err != nil {
		t.Error(err)
	}
}

// throw sends the garbage, as fast as the kernel takes it.
func (b *barrage) throw(t *testing.T, addr string) {
	t.Helper()
	if b.datagram == 0 {
		return
	}
	spoofer, err := peer.NewSpoofer(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer spoofer.Close()
	garbage := peer.NewGarbage(b.corpus, nil, b.seed)
	began := time.Now()
	const sources = 10_000
	if err := spoofer.Send(b.datagram, func(i int) ([]byte, net.IP) { return garbage.Next(), peer.Source(i % sources) }, nil); err != nil {
		t.Error(err)
	}
	b.sent = time.Since(began)
}

func put(ctx context.Context, tr *tailfin.Transport, url string, body io.Reader, size int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, io.NopCloser(body))
	if err != nil {
		return err
	}
	req.ContentLength = int64(size)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusCreated {
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}
	return err
}

// A pacedBody gives its bytes evenly over a time, and the last when all else is over, so
// that the upload is under way for as long as what is beside it.
type pacedBody struct {
	rest  []byte
	size  int
	lasts time.Duration
	start <-chan time.Time
	begun func()
	over  <-chan struct{}

	began time.Time
}

// pacedStep is how often bytes come.
const pacedStep = 5 * time.Millisecond

func (p *pacedBody) Read(b []byte) (int, error) {
	if p.began.IsZero() {
		p.begun()
		p.began = <-p.start
	}
	for len(p.rest) > 0 {
		due, given := p.size-1, p.size-len(p.rest)
		if at := time.Since(p.began); at < p.lasts {
			due = min(due, int(int64(p.size)*int64(at)/int64(p.lasts)))
		}
		if given == p.size-1 {
			<-p.over
			due = p.size
		}
		if n := min(due-given, len(b)); n > 0 {
			copy(b, p.rest[:n])
			p.rest = p.rest[n:]
			return n, nil
		}
		time.Sleep(pacedStep)
	}
	return 0, io.EOF
}

// TestHostileGarbageBesideUploads has uploads to a daemon while garbage arrives at full
// rate, and what that costs: the same uploads alone, in pairs.
func TestHostileGarbageBesideUploads(t *testing.T) {
	cert, err := devcert.New("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	corpus, err := peer.Record(ctx, cert)
	if err != nil {
		t.Fatal(err)
	}
	base := barrage{uploads: hostile.Size(10, 100), size: 1 << 20, corpus: corpus, datagram: hostile.Size(20_000, 1_000_000), seed: 1}
	first := base // how long it takes, and what it leaves
	first.run(t, true)
	base.lasts = first.sent
	row := hostile.Result{
		Kind: "peer", Fault: fmt.Sprintf("%d datagrams of garbage at full rate while %d uploads of 1 MiB run", base.datagram, base.uploads),
		Tries: base.datagram, Lost: first.lost, Corrupt: first.corrupt, Leaked: first.left,
	}
	var pairs []string
	var ratios, rates, dropped []float64
	var counted string
	for i := range hostile.Size(1, 5) {
		with, alone := base, base
		with.seed, alone.datagram = uint64(i+2), 0
		order := []*barrage{&with, &alone}
		if i%2 == 1 {
			slices.Reverse(order)
		}
		for _, b := range order {
			b.run(t, false)
			row.Lost, row.Corrupt = row.Lost+b.lost, row.Corrupt+b.corrupt
		}
		row.Tries += base.datagram
		pairs = append(pairs, fmt.Sprintf("%.2f/%.2f", with.cpu.Seconds(), alone.cpu.Seconds()))
		ratios = append(ratios, with.cpu.Seconds()/alone.cpu.Seconds())
		rates = append(rates, float64(base.datagram)/with.sent.Seconds())
		dropped = append(dropped, with.dropped)
		counted = with.counted
	}
	row.Bound = fmt.Sprintf("CPU s of the server with/alone %s, median of ratios %.1f; %.0f datagrams/s, of which the kernel dropped %.0f for a full buffer; %s",
		strings.Join(pairs, " "), median(ratios), median(rates), median(dropped), counted)
	row.Report(t)
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	n := len(list)
	return (list[(n-1)/2] + list[n/2]) / 2
}
