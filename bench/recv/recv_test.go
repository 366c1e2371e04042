package recv

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin/uring"

	"github.com/tailfin-quic/tailfin/bench/proc"
	"github.com/tailfin-quic/tailfin/bench/stat"
)

func TestMain(m *testing.M) {
	proc.Child(Roles())
	// The race detector has a program wait a second before it exits, and this
	// one is started often.
	_ = os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	os.Exit(m.Run())
}

// built lists the readers that this build has.
func built() []string {
	return slices.DeleteFunc(slices.Clone(Readers), func(r string) bool {
		return !uring.Supported && strings.HasPrefix(r, "uring")
	})
}

func quick() Config {
	return Config{
		Readers: built(), Segments: []int{16}, Payload: []int{1000}, Flows: []int{3}, Rates: []int{0},
		Pin: []bool{false}, Pairs: 1, Warmup: 20 * time.Millisecond, Duration: 50 * time.Millisecond, Buffer: 8 << 20, Seed: 1,
	}
}

// TestRun measures for real, with each reader: what is sent must be what is
// read and what the kernel dropped, also where it drops much.
func TestRun(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux")
	}
	for _, tc := range []struct {
		name   string
		change func(*Config)
		check  func(t *testing.T, r Row)
	}{
		{"trains", func(*Config) {}, func(t *testing.T, r Row) {
			if gro := r.Reader != "stock" && r.Reader != "msg" && r.Reader != "mmsg" && r.Reader != "uring"; gro != r.Coalesced {
				t.Errorf("%s: trains of %.1f", r.Reader, r.Train)
			}
		}},
		{"a small buffer", func(c *Config) { c.Buffer = 50_000 }, func(t *testing.T, r Row) {
			if r.Reader == "stock" && r.Lost == 0 {
				t.Errorf("%s lost nothing, so this shows nothing", r.Reader)
			}
		}},
		{"paced", func(c *Config) { c.Segments, c.Rates = []int{1}, []int{2000} }, func(t *testing.T, r Row) {
			if r.Lost > 0 || r.P99 <= 0 || r.P99 < r.P50 {
				t.Errorf("%s: %+v", r.Reader, r)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := quick()
			tc.change(&c)
			rows := measured(t, c)
			if len(rows) != len(c.Readers) {
				t.Fatalf("%d rows of %d readers", len(rows), len(c.Readers))
			}
			for _, r := range rows {
				if strings.Contains(r.Skipped, "install ") || strings.Contains(r.Skipped, "io_uring") {
					t.Skipf("%s: %s", r.Reader, r.Skipped)
				}
				if r.Skipped != "" {
					t.Fatalf("%s: %s", r.Reader, r.Skipped)
				}
				if r.Accounting != "exact" || r.Sent != r.Received+r.Lost || r.Received == 0 || r.Reordered != 0 || r.CPU <= 0 {
					t.Errorf("%s: %+v", r.Reader, r)
				}
				tc.check(t, r)
			}
		})
	}
}

// measured runs c, again if a receiver had no processor in all of its short time, as
// happens beside other tests.
func measured(t *testing.T, c Config) []Row {
	t.Helper()
	const tries = 5
	for try := 1; ; try++ {
		rows, err := Run(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		starved := slices.ContainsFunc(rows, func(r Row) bool { return r.Skipped == "" && r.CPU <= 0 })
		if !starved || try == tries {
			return rows
		}
	}
}

// TestRunSaysWhatItCouldNot has a reader that cannot be had.
func TestRunSaysWhatItCouldNot(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux")
	}
	t.Setenv("TAILFIN_DISABLE_URING", "1")
	t.Setenv("PATH", "")
	c := quick()
	c.Readers = []string{"mmsg-gro", "uring-gro", "c"}
	rows, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if rows[0].Skipped != "" || !strings.Contains(rows[1].Skipped, "TAILFIN_DISABLE_URING") || !strings.Contains(rows[2].Skipped, "install gcc") {
		t.Errorf("%+v", rows)
	}
}

func TestCheck(t *testing.T) {
	good := quick()
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Config){
		"reader":      func(c *Config) { c.Readers = []string{"best"} },
		"no readers":  func(c *Config) { c.Readers = nil },
		"segments":    func(c *Config) { c.Segments = []int{65} },
		"no segments": func(c *Config) { c.Segments = nil },
		"payload":     func(c *Config) { c.Payload = []int{8} },
		"flows":       func(c *Config) { c.Flows = []int{0} },
		"rate":        func(c *Config) { c.Rates = []int{-1} },
		"pairs":       func(c *Config) { c.Pairs = 0 },
		"duration":    func(c *Config) { c.Duration = 0 },
		"pin":         func(c *Config) { c.Pin = nil },
	} {
		c := quick()
		spoil(&c)
		if c.Check() == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := Run(t.Context(), c); err == nil && runtime.GOOS == "linux" {
			t.Errorf("%s: it ran", name)
		}
	}
}

func TestCells(t *testing.T) {
	c := quick()
	c.Segments, c.Payload, c.Flows, c.Rates, c.Pin = []int{1, 64}, []int{1000, 1452}, []int{1, 2}, []int{0, 5}, []bool{true, false}
	cells := c.Cells()
	if len(cells) != (4-1)*2*2*2 { // 64 × 1452 bytes do not fit
		t.Errorf("%d cells", len(cells))
	}
	seen := map[Cell]bool{}
	for _, cell := range cells {
		if seen[cell] || cell.Segments*cell.Payload > maxTrain {
			t.Errorf("%v", cell)
		}
		seen[cell] = true
	}
	order := c.shuffled(rand.New(rand.NewPCG(1, 2)))
	if slices.Sort(order); !slices.Equal(order, slices.Sorted(slices.Values(c.Readers))) {
		t.Errorf("shuffled: %v", order)
	}
}

func TestReconcile(t *testing.T) {
	for _, tc := range []struct {
		sent, received, drops, foreign uint64
		gro, exact                     bool
	}{
		{100, 100, 0, 0, true, true},
		{160, 128, 2, 0, true, true},   // two trains of 16
		{160, 128, 32, 0, true, false}, // a train counts as one
		{160, 128, 32, 0, false, true},
		{160, 127, 32, 0, false, false},
		{100, 101, 0, 0, false, false},
		{100, 100, 0, 1, false, false},
	} {
		r := run{sent: tc.sent, result: result{Received: tc.received, Drops: tc.drops, Foreign: tc.foreign, GRO: tc.gro}}
		if r.reconcile(16); (r.account == "") != tc.exact {
			t.Errorf("%+v: %q", tc, r.account)
		}
	}
}

func TestRatios(t *testing.T) {
	if m := stat.Median([]float64{5, 1, 3}); m != 3 {
		t.Error(m)
	}
	if m := stat.Median([]float64{4, 1, 3, 2}); m != 2.5 {
		t.Error(m)
	}
	if !math.IsNaN(stat.Median(nil)) {
		t.Error("a median of nothing")
	}
	with := func(cpu ...float64) (list []run) {
		for _, c := range cpu {
			list = append(list, run{result: result{CPU: c, Measured: 10, Seconds: 1, Train: 1}})
		}
		return list
	}
	cell := Cell{Segments: 1, Payload: 100, Flows: 1}
	got := rows(cell, []string{"stock", "auto", "c"}, map[string][]run{
		"stock": with(10, 20, 40), "auto": with(5, 5, 30),
	}, map[string]string{"c": "no compiler"})
	auto := got[1]
	if auto.RatioToStock != 0.5 || auto.ToStock.Low != 0.25 || auto.ToStock.High != 0.75 || got[0].RatioToStock != 1 {
		t.Errorf("%+v, %+v", got[0], auto.ToStock)
	}
	if auto.ToC != nil || got[2].Skipped == "" || got[2].CPU != 0 {
		t.Errorf("%+v", got[2])
	}
	// Trains that did not come as trains are not compared.
	cell.Segments = 16
	runs := with(1, 1, 1)
	for i := range runs {
		runs[i].GRO = true
	}
	if r := rows(cell, []string{"auto"}, map[string][]run{"auto": runs}, nil)[0]; r.Invalid == "" || r.ToStock != nil || r.Coalesced {
		t.Errorf("%+v", r)
	}
	cell = Cell{Segments: 1, Payload: 100, Flows: 1, Rate: 1000}
	if r := rows(cell, []string{"auto"}, map[string][]run{"auto": with(1)}, nil)[0]; r.Invalid == "" {
		t.Errorf("a rate that was not reached: %+v", r)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux")
	}
	ctx, cancel := context.WithCancel(t.Context())
	c := quick()
	c.Readers = []string{"stock"}
	c.Pairs = 100
	c.Progress = func(done, _ int, _ string) {
		if done == 2 {
			cancel()
		}
	}
	if _, err := Run(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
