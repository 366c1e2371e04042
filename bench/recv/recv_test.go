package recv

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin/bench/netlab"
	"github.com/tailfin-quic/tailfin/bench/proc"
	"github.com/tailfin-quic/tailfin/bench/rounds"
	"github.com/tailfin-quic/tailfin/uring"
)

func TestMain(m *testing.M) {
	proc.Child(Roles(), netlab.Roles())
	// The race detector has a program wait a second before it exits, and this
	// one is started often.
	_ = os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	os.Exit(m.Run())
}

// built lists the readers that this build has, but for iperf3.
func built() []string {
	return slices.DeleteFunc(slices.Clone(Readers), func(r string) bool {
		return r == foreignReader || !uring.Supported && strings.HasPrefix(r, "uring")
	})
}

func quick() Config {
	return Config{
		Readers: built(), Path: netlab.Loopback, Segments: []int{16}, Payload: []int{1000}, Flows: []int{3}, Rates: []int{0},
		Pin: []bool{false}, Warmup: 10 * time.Millisecond, Duration: 40 * time.Millisecond, Buffer: 8 << 20,
		Plan: rounds.Plan{Rounds: 1, Seed: 1},
	}
}

func TestCheck(t *testing.T) {
	good := quick()
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Config){
		"reader":         func(c *Config) { c.Readers = []string{"best"} },
		"no readers":     func(c *Config) { c.Readers = nil },
		"a reader twice": func(c *Config) { c.Readers = []string{"stock", "stock"} },
		"path":           func(c *Config) { c.Path = "pigeons" },
		"segments":       func(c *Config) { c.Segments = []int{65} },
		"no segments":    func(c *Config) { c.Segments = nil },
		"segments twice": func(c *Config) { c.Segments = []int{4, 16, 4} },
		"payload":        func(c *Config) { c.Payload = []int{8} },
		"long payload":   func(c *Config) { c.Payload = []int{1453} },
		"flows":          func(c *Config) { c.Flows = []int{0} },
		"rate":           func(c *Config) { c.Rates = []int{-1} },
		"pairs":          func(c *Config) { c.Rounds = 0 },
		"duration":       func(c *Config) { c.Duration = 0 },
		"warm-up":        func(c *Config) { c.Warmup = -1 },
		"buffer":         func(c *Config) { c.Buffer = 1 },
		"large buffer":   func(c *Config) { c.Buffer = 1<<30 + 1 },
		"pin":            func(c *Config) { c.Pin = nil },
		"no cell":        func(c *Config) { c.Segments, c.Payload = []int{64}, []int{1452} },
	} {
		c := quick()
		spoil(&c)
		if c.Check() == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := Run(t.Context(), c); err == nil {
			t.Errorf("%s: it ran", name)
		}
	}
}

func TestCells(t *testing.T) {
	c := quick()
	c.Segments, c.Payload, c.Flows, c.Rates, c.Pin = []int{1, 64}, []int{1000, 1452}, []int{1, 2}, []int{0, 5}, []bool{true, false}
	c.Readers, c.Rounds = []string{"stock", "auto", "iperf3"}, 3
	cells := c.Cells()
	if len(cells) != (4-1)*2*2*2 { // 64 × 1452 bytes do not fit
		t.Errorf("%d cells", len(cells))
	}
	seen, single := map[Cell]bool{}, 0
	for _, cell := range cells {
		if seen[cell] || cell.Segments*cell.Payload > maxTrain {
			t.Errorf("%v", cell)
		}
		seen[cell] = true
		if cell.Segments == 1 {
			single++
		}
	}
	if want := len(cells)*2*3 + single; c.Turns() != want {
		t.Errorf("%d turns, want %d: two readers in three rounds, and iperf3 where there are no trains", c.Turns(), want)
	}
}

// TestInterval: a 99th percentile is of enough datagrams, however few a second.
func TestInterval(t *testing.T) {
	c := quick()
	c.Readers = []string{"stock"}
	for rate, want := range map[int]time.Duration{0: c.Duration, 100_000: c.Duration, 1000: 3 * time.Second, 300: 10 * time.Second} {
		if got := c.interval(Cell{Rate: rate}); got.Round(time.Millisecond) != want.Round(time.Millisecond) {
			t.Errorf("%d a second: %v, want %v", rate, got, want)
		}
	}
	c.Rates, c.Rounds = []int{1000}, 4
	if got := c.Estimate(); got < 12*time.Second || got > 18*time.Second {
		t.Errorf("four runs of three seconds were estimated to take %v", got)
	}
}

func TestReconcile(t *testing.T) {
	const trains = 16
	for _, tc := range []struct {
		path                           string
		gro                            bool
		sent, received, drops, foreign uint64

		says        string // how the accounting begins
		wrong       bool
		unaccounted uint64
	}{
		{"loopback", true, 100, 100, 0, 0, "exact", false, 0},
		{"loopback", true, 160, 128, 2, 0, "exact", false, 0},           // two trains of 16
		{"loopback", true, 160, 128, 32, 0, "32 missing", true, 0},      // a train counts as one
		{"veth", true, 160, 128, 2, 0, "exact", false, 0},               // it passes trains whole
		{"veth", true, 160, 112, 2, 0, "48 missing", true, 0},           // and loses none
		{"loopback", false, 160, 128, 32, 0, "exact", false, 0},         // cut for the socket
		{"loopback", false, 160, 127, 32, 0, "33 missing", true, 0},     //
		{"loopback", false, 100, 101, 0, 0, "received 101", true, 0},    //
		{"wan", false, 100, 101, 0, 0, "received 101", true, 0},         //
		{"loopback", false, 100, 100, 0, 1, "1 datagrams", true, 0},     // another's
		{"veth-cut", true, 160, 160, 0, 0, "exact", false, 0},           //
		{"veth-cut", true, 160, 128, 2, 0, "bounded: 32", false, 0},     // 2 to 128 datagrams
		{"veth-cut", true, 160, 159, 2, 0, "1 missing", true, 0},        // but not less than 2
		{"veth-cut", true, 1600, 1400, 2, 0, "bounded: 200", false, 72}, // nor more than 128
		{"veth-cut", false, 160, 128, 32, 0, "exact", false, 0},         // nothing is joined
		{"wan", false, 160, 128, 30, 0, "2 lost, neither", false, 2},
		{"wan", true, 160, 158, 0, 0, "2 lost, neither", false, 2},
		{"wan", false, 160, 159, 2, 0, "1 missing", true, 0},
	} {
		r := run{sent: tc.sent, result: result{Received: tc.received, Drops: tc.drops, Foreign: tc.foreign, GRO: tc.gro}}
		r.reconcile(trains, accountOf(tc.path, ""))
		if says := accounting([]run{{}, r}); !strings.HasPrefix(says, tc.says) || (r.wrong != "") != tc.wrong || r.unaccounted != tc.unaccounted {
			t.Errorf("%+v: %q, %d unaccounted, wrong: %q", tc, says, r.unaccounted, r.wrong)
		}
	}
}

// TestReconcileWithWire: a wire joins nothing, so a drop is a datagram.
func TestReconcileWithWire(t *testing.T) {
	for drops, says := range map[uint64]string{20: "exact", 21: "23 missing", 19: "1 lost, neither"} {
		r := run{sent: 1600, gone: 3, result: result{Received: 1577, Drops: drops, GRO: true}}
		r.reconcile(16, accountOf(netlab.WAN, netlab.Wire))
		if got := accounting([]run{r}); !strings.HasPrefix(got, says) {
			t.Errorf("%d drops: %q", drops, got)
		}
	}
}

// TestReconcileWithPath has a path that counts what it loses.
func TestReconcileWithPath(t *testing.T) {
	for _, tc := range []struct {
		gone, missing, drops uint64
		says                 string
		unaccounted          uint64
	}{
		{3, 3, 0, "exact", 0},
		{3, 5, 2, "exact", 0},
		{3, 6, 2, "1 lost, neither", 1},
		{3, 4, 2, "4 missing", 0}, // and 5 are known of
		{3, 2, 0, "2 missing", 0},
	} {
		r := run{sent: 1000, gone: tc.gone, result: result{Received: 1000 - tc.missing, Drops: tc.drops}}
		r.reconcile(1, accountOf(netlab.WAN, netlab.Netem))
		if says := accounting([]run{r}); !strings.HasPrefix(says, tc.says) || r.unaccounted != tc.unaccounted {
			t.Errorf("%+v: %q, %d unaccounted", tc, says, r.unaccounted)
		}
	}
}

// of makes runs with such processor times.
func of(change func(*run), cpu ...float64) (list []run) {
	for _, c := range cpu {
		r := run{result: result{CPU: c, Measured: 10, Seconds: 1, Train: 1, RcvBuf: 1 << 20, P99: c}}
		if change != nil {
			change(&r)
		}
		list = append(list, r)
	}
	return list
}

func TestRows(t *testing.T) {
	cell := Cell{Segments: 1, Payload: 100, Flows: 1}
	got := rows("loopback", cell, []string{"stock", "auto", "c"}, &rounds.Results[run]{
		Runs:    map[string][]run{"stock": of(nil, 10, 20, 40), "auto": of(nil, 5, 5, 30)},
		Skipped: map[string]string{"c": "no compiler"},
	})
	auto := got[1]
	if auto.RatioToStock != 0.5 || auto.ToStock.Low != 0.25 || auto.ToStock.High != 0.75 || got[0].RatioToStock != 1 {
		t.Errorf("%+v, %+v", got[0], auto.ToStock)
	}
	if auto.ToC != nil || got[2].Skipped == "" || got[2].CPU != 0 {
		t.Errorf("%+v", got[2])
	}
	if s := auto.Samples["cpu_ns_per_datagram"]; !slices.Equal(s, []float64{5e8, 5e8, 3e9}) || auto.CPU != 5e8 {
		t.Errorf("samples %v, median %v", s, auto.CPU)
	}
	if auto.Path != "loopback" || auto.Samples["p99_us"] != nil {
		t.Errorf("%+v", auto)
	}
}

// TestInvalid: what says nothing has no ratios, and nothing is compared with it.
func TestInvalid(t *testing.T) {
	trains := Cell{Segments: 16, Payload: 100, Flows: 1}
	gro := func(train float64) func(*run) { return func(r *run) { r.GRO, r.Train = true, train } }
	for _, tc := range []struct {
		name, reader string
		cell         Cell
		runs         []run
		why          string
	}{
		{"trains came as trains", "auto", trains, of(gro(16), 1, 1, 1), ""},
		{"none did", "auto", trains, of(nil, 1, 1, 1), "trains were sent"},
		{"one round had none", "mmsg-gro", trains, append(of(gro(16), 1, 1), of(gro(1), 1)...), "1 of 3 rounds"},
		{"C has no GRO", "c-mmsg", trains, of(gro(1), 1, 1, 1), "trains were sent"},
		{"none was wanted", "uring", trains, of(nil, 1, 1, 1), ""},
		{"a rate that was not reached", "auto", Cell{Segments: 1, Payload: 100, Flows: 1, Rate: 1000}, of(nil, 1, 1, 1), "rate"},
		{"a round without cost", "auto", trains, of(gro(16), 1, 0, 1), "nothing was read"},
		{"another buffer", "auto", trains, of(func(r *run) { gro(16)(r); r.RcvBuf = 1000 }, 1, 1, 1), "receive buffer"},
		{"accounts", "auto", trains, of(func(r *run) { gro(16)(r); r.wrong = "5 missing" }, 1, 1, 1), "5 missing"},
	} {
		stock := of(func(r *run) { r.offered = 1000 }, 2, 2, 2)
		got := rows("loopback", tc.cell, []string{"stock", tc.reader}, &rounds.Results[run]{Runs: map[string][]run{"stock": stock, tc.reader: tc.runs}})
		row := got[1]
		if tc.why == "" {
			if row.Invalid != "" || row.RatioToStock != 0.5 {
				t.Errorf("%s: %+v", tc.name, row)
			}
			continue
		}
		if !strings.Contains(row.Invalid, tc.why) || row.ToStock != nil || row.RatioToStock != 0 || row.P99ToStock != 0 {
			t.Errorf("%s: %+v", tc.name, row)
		}
		// And the other way round: an invalid stock is not what others are compared with.
		got = rows("loopback", tc.cell, []string{"mmsg-gro", tc.reader}, &rounds.Results[run]{Runs: map[string][]run{"mmsg-gro": stock, tc.reader: tc.runs}})
		if tc.reader == "mmsg-gro" && got[0].ToMmsgGRO != nil {
			t.Errorf("%s: compared with itself: %+v", tc.name, got[0])
		}
	}
}

func TestForeignReport(t *testing.T) {
	const text = `{"end": {"sum_sent": {"seconds": 2, "packets": 1010}, "sum_received": {"seconds": 2, "bytes": 1000000},
		"cpu_utilization_percent": {"host_total": 50, "remote_total": 10}}}`
	row := newRow("veth", Cell{Segments: 1, Payload: 1000, Flows: 1}, foreignReader)
	if err := row.fillForeign([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if row.Received != 1000 || row.Lost != 10 || row.CPU != 200_000 || row.ReceivedPPS != 500 || row.Accounting == accountsExact || row.SenderUtilization != 0.5 {
		t.Errorf("%+v", row)
	}
	for name, text := range map[string]string{
		"error":   `{"error": "unable to connect"}`,
		"nothing": `{"end": {}}`,
		"no JSON": `iperf3: parameter error`,
	} {
		row := newRow("veth", Cell{Segments: 1, Payload: 1000, Flows: 1}, foreignReader)
		if err := row.fillForeign([]byte(text)); err == nil {
			t.Errorf("%s: %+v", name, row)
		}
	}
}
