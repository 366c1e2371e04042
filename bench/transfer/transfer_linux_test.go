package transfer

import (
	"context"
	"crypto/tls"
	"errors"
	"math"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin/bench/proc"
	"github.com/tailfin-quic/tailfin/bench/rounds"
	"github.com/tailfin-quic/tailfin/bench/servers"
)

func newCert() (tls.Certificate, error) {
	s := httptest.NewUnstartedServer(nil)
	defer s.Close()
	s.StartTLS()
	return s.TLS.Certificates[0], nil
}

func TestMain(m *testing.M) {
	proc.Child(Roles(newCert))
	os.Exit(m.Run())
}

// small is a Config for what can be held of any run, however slow.
func small(receivers ...string) Config {
	return Config{Receivers: receivers, Bytes: 1 << 20, Flows: []int{1}, Plan: rounds.Plan{Rounds: 1, Seed: 1}}
}

// measure runs it, and holds what is so of any row.
func measure(t *testing.T, c Config) []Row {
	t.Helper()
	rows, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if row.Skipped != "" || row.Rounds != c.Rounds || row.Path != "loopback" {
			t.Errorf("%+v", row)
		}
		if row.CPU <= 0 || row.Gbit <= 0 || row.Receiver <= 0 || row.Sending <= 0 || len(row.Samples["cpu_s_per_gb"]) != c.Rounds {
			t.Errorf("%+v", row)
		}
	}
	return rows
}

// TestBulk has every receiver take small uploads, of one connection and of some in the
// same round.
func TestBulk(t *testing.T) {
	t.Parallel()
	c := small(servers.Names...)
	c.Flows = []int{1, 3}
	var told int
	c.Progress = func(done, total int, _ string) {
		if told++; done != told || total != 6 {
			t.Errorf("turn %d of %d, told %d times", done, total, told)
		}
	}
	rows := measure(t, c)
	if told != 6 || len(rows) != 6 {
		t.Fatalf("%d turns, rows %+v", told, rows)
	}
	for i, row := range rows {
		if row.ToStock == nil || row.ToOff == nil || row.Allocs <= 0 || row.Counted != "packets" || row.Bottleneck != BottleneckNone {
			t.Errorf("%+v", row)
		}
		if (row.Flows == 3) != (i >= 3) || (row.ToOneFlow != nil) != (row.Flows == 3) || (row.Reader == servers.Stock) != (i%3 == 0) {
			t.Errorf("%+v", row)
		}
		if (row.Train >= 1) != (row.Reader == "auto") {
			t.Errorf("%.1f datagrams at a time: %+v", row.Train, row)
		}
	}
	// quic-go's tracer allocates for every packet: where that does not show, the
	// drain was not on, or not off.
	if off, on := rows[1], rows[2]; on.Drain != "on" || on.Allocs < off.Allocs+1 {
		t.Errorf("allocations with the drain %.2f, without %.2f", on.Allocs, off.Allocs)
	}
}

func TestShards(t *testing.T) {
	t.Parallel()
	c := small(servers.Stock, servers.DrainOn)
	c.Flows, c.Shards = []int{4}, []int{1, 2}
	rows := measure(t, c)
	for i, row := range rows {
		if row.Shards != 1+i/2 || row.ToStock == nil {
			t.Errorf("%+v", row)
		}
	}
}

// TestBottleneck has neighbours on the receiver's processor, and takes either answer:
// who was the bottleneck is the machine's business.
func TestBottleneck(t *testing.T) {
	t.Parallel()
	if runtime.NumCPU() < 2 {
		t.Skip("pinning needs two processors")
	}
	c := small(servers.Stock, servers.DrainOn)
	c.Bottleneck, c.ReceiverCPU, c.Sender, c.Pin = BottleneckReceiver, 33, Tailfin, true
	for _, row := range measure(t, c) {
		if row.Share <= 0 || (row.Share < leastShare && row.Reader == servers.Stock || row.Share > mostShare) != (row.Invalid != "") || row.GoodputToStock != nil && row.Invalid != "" || row.ReceiverCPU != 33 {
			t.Errorf("%+v", row)
		}
	}
}

func TestLatency(t *testing.T) {
	t.Parallel()
	for _, connection := range []string{SameConnection, OtherConnection} {
		c := small(servers.Stock, servers.DrainOn)
		c.Kind, c.Connection, c.Rate, c.Time = Latency, connection, 100, 300*time.Millisecond
		for _, row := range measure(t, c) {
			if row.P50 <= 0 || row.P99 < row.P50 || row.Connection != connection || row.P99ToStock == nil || len(row.Samples["p99_us"]) != 1 {
				t.Errorf("%+v", row)
			}
		}
	}
}

// TestPacedBody holds a body that is offered at a rate to that rate: it is not ahead of
// it. That it is not behind is the row's business.
func TestPacedBody(t *testing.T) {
	began := time.Now()
	b := &timedBody{began: began, end: began.Add(200 * time.Millisecond), perSecond: 4 << 20}
	n, err := discard(b)
	took := time.Since(began)
	if err == nil || n != b.sent || n == 0 {
		t.Errorf("%d bytes of %d: %v", n, b.sent, err)
	}
	if most := took.Seconds()*b.perSecond + paceBytes; float64(n) > most {
		t.Errorf("%d bytes in %v, where %.0f were due", n, took, most)
	}
}

func TestDownload(t *testing.T) {
	t.Parallel()
	c := small(servers.Names...)
	c.Direction, c.Flows = Download, []int{2}
	for _, row := range measure(t, c) {
		if row.ToStock == nil || row.Counted != "body/1200" || row.Allocs <= 0 {
			t.Errorf("%+v", row)
		}
	}
}

// TestForeign has foreign programs send and receive.
func TestForeign(t *testing.T) {
	t.Parallel()
	cert, err := newCert()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(c *Config){
		"ngtcp2 sends":     func(c *Config) { c.Sender = NGTCP2 },
		"ngtcp2 receives":  func(c *Config) { c.Receivers = []string{servers.Stock, NGTCP2} },
		"ngtcp2 is loaded": func(c *Config) { c.Sender, c.Direction = NGTCP2, Download },
		"iperf3":           func(c *Config) { c.Sender, c.Receivers = IPerf3, []string{IPerf3} },
	} {
		t.Run(name, func(t *testing.T) {
			c := small(servers.Stock, servers.DrainOn)
			c.Cert = cert
			change(&c)
			rows, err := Run(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range rows {
				if strings.Contains(row.Skipped, "not installed") {
					t.Skip(row.Skipped)
				}
				if row.Skipped != "" || row.CPU <= 0 || row.Gbit <= 0 || row.Sending <= 0 {
					t.Errorf("%+v", row)
				}
				if (row.Reader == NGTCP2 || row.Reader == IPerf3) != (row.Drain == "") {
					t.Errorf("%+v", row)
				}
			}
		})
	}
}

func TestRunEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	c := small(servers.Names...)
	c.Progress = func(done, _ int, _ string) {
		if done == 2 {
			cancel()
		}
	}
	if _, err := Run(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("%v from a context that is done", err)
	}
}

func TestCheck(t *testing.T) {
	good := small(servers.Stock)
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(c *Config){
		"no receivers":                     func(c *Config) { c.Receivers = nil },
		`no receiver "fast"`:               func(c *Config) { c.Receivers = []string{"fast"} },
		"0 bytes":                          func(c *Config) { c.Bytes = 0 },
		"0 flows":                          func(c *Config) { c.Flows = []int{0} },
		"1001 flows":                       func(c *Config) { c.Flows = []int{1001} },
		"no flows":                         func(c *Config) { c.Flows = nil },
		"65 shards":                        func(c *Config) { c.Shards = []int{65} },
		"0 pairs":                          func(c *Config) { c.Rounds = 0 },
		`no path "moon"`:                   func(c *Config) { c.Path = "moon" },
		`no kind "odd"`:                    func(c *Config) { c.Kind = "odd" },
		`no sender "post"`:                 func(c *Config) { c.Sender = "post" },
		`no connection ""`:                 func(c *Config) { c.Kind = Latency },
		"has to be pinned":                 func(c *Config) { c.Bottleneck = BottleneckReceiver },
		"51 percent":                       func(c *Config) { c.ReceiverCPU = 51 },
		"ngtcp2 sends one flow":            func(c *Config) { c.Sender, c.Flows = NGTCP2, []int{2} },
		"ngtcp2 receives uploads":          func(c *Config) { c.Receivers, c.Direction = []string{NGTCP2}, Download },
		"a download is in bulk":            func(c *Config) { c.Direction, c.Shards = Download, []int{2} },
		"iperf3 sends in bulk to iperf3":   func(c *Config) { c.Sender = IPerf3 },
		"0 small requests a second; give ": func(c *Config) { c.Kind, c.Connection = Latency, SameConnection },
	} {
		c := good
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestRows makes rows of figures that are known.
func TestRows(t *testing.T) {
	c := small(servers.Stock, servers.DrainOn)
	c.Flows, c.Bottleneck, c.ReceiverCPU, c.Pin, c.Rounds = []int{1, 256}, BottleneckReceiver, 33, true, 2
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	one := func(cpu, seconds, due float64) result {
		return result{received: received{Bytes: 1e9, Seconds: seconds, CPU: cpu, Allocs: 100, Packets: 50}, sender: sentReport{Seconds: 10, CPU: 5}, due: due}
	}
	name := func(receiver string, flows int) string { return contestant{receiver, flows, 1}.name() }
	results := rounds.Results[result]{Runs: map[string][]result{
		name(servers.Stock, 1):     {one(4, 8, 4), one(8, 16, 8)},
		name(servers.DrainOn, 1):   {one(3, 6, 3), one(4, 8, 4)},
		name(servers.Stock, 256):   {one(8, 8, 8), one(8, 8, 8)},
		name(servers.DrainOn, 256): {one(6, 8, 8), one(6, 8, 8)},
	}}
	got := rows(&c, &results)
	if len(got) != 4 {
		t.Fatalf("%+v", got)
	}
	on, idle := got[1], got[3]
	if on.CPU != 3.5 || on.RatioToStock != 0.625 || on.ToStock.Low != 0.5 || on.ToStock.High != 0.75 || on.Allocs != 2 || on.Receiver != 0.5 || on.Sending != 0.5 {
		t.Errorf("%+v", on)
	}
	if math.Abs(on.GoodputRatioToStock-5./3) > 1e-9 || on.Share != 1 || on.Invalid != "" || on.ToOneFlow != nil || !slices.Equal(on.Samples["cpu_s_per_gb"], []float64{3, 4}) {
		t.Errorf("%+v", on)
	}
	if stock := got[2]; stock.CostToOneFlow != 1.5 {
		t.Errorf("%+v", stock)
	}
	if idle.Share != 0.75 || idle.Invalid != "" || idle.GoodputRatioToStock != 1 {
		t.Errorf("ours, which was not the bottleneck: %+v", idle)
	}
	results.Runs[name(servers.Stock, 256)] = []result{one(6, 8, 8), one(6, 8, 8)}
	if got := rows(&c, &results); !strings.Contains(got[2].Invalid, "75 % of its share") || got[2].ToOneFlow != nil || got[3].GoodputToStock != nil {
		t.Errorf("stock, which was not the bottleneck: %+v, %+v", got[2], got[3])
	}

	results.Runs[name(servers.DrainOn, 1)] = []result{one(4, 8, 3), one(4, 8, 3)}
	if got := rows(&c, &results); !strings.Contains(got[1].Invalid, "133 % of its share") {
		t.Errorf("%+v", got[1])
	}

	results.Runs[name(servers.DrainOn, 1)] = []result{one(4, 8, 4)}
	results.Runs[name(servers.Stock, 1)] = []result{one(4, 8, 3)}
	if got := rows(&c, &results); got[0].Invalid == "" || got[1].Invalid != "" || got[1].ToStock != nil || got[1].GoodputToStock != nil || got[2].ToOneFlow != nil {
		t.Errorf("ratios to what is not valid: %+v", got)
	}

	c.Kind, c.Bottleneck, c.BulkGbit = Latency, BottleneckNone, 8
	if got := rows(&c, &results); !strings.Contains(got[0].Invalid, "of 8 offered") {
		t.Errorf("%+v", got[0])
	}
}
