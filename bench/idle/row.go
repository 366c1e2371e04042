package idle

import (
	"errors"
	"fmt"
	"time"

	"github.com/tailfin-quic/tailfin/bench/netlab"
	"github.com/tailfin-quic/tailfin/bench/rounds"
	"github.com/tailfin-quic/tailfin/bench/servers"
	"github.com/tailfin-quic/tailfin/bench/stat"
)

// A Config says what to measure.
type Config struct {
	Receivers []string      // of package servers
	Conns     int           // idle at a time
	KeepAlive time.Duration // between the client's PINGs; 0 is none
	Time      time.Duration // for which the processor time of idling is measured
	Path      string        // of package netlab; empty is loopback
	Pin       bool
	Profile   string // a folder for profiles of the receivers' heaps, with all connections; empty is none
	rounds.Plan
}

// The bounds of a Config.
const (
	maxConns = 100_000
	maxTime  = 10 * time.Minute
)

// Check says what is wrong with a Config.
func (c *Config) Check() error {
	errs := []error{servers.CheckNames(c.Receivers), c.Plan.Check(), netlab.Check(c.path())}
	if c.Conns < 1 || c.Conns > maxConns {
		errs = append(errs, fmt.Errorf("%d connections; give 1 to %d", c.Conns, maxConns))
	}
	if c.Time <= 0 || c.Time > maxTime {
		errs = append(errs, fmt.Errorf("%v of idling; give up to %v", c.Time, maxTime))
	}
	if c.KeepAlive != 0 && (c.KeepAlive < time.Second || c.KeepAlive > idleTimeout/2) {
		errs = append(errs, fmt.Errorf("PINGs every %v; give 1s to %v, or 0 for none", c.KeepAlive, idleTimeout/2))
	}
	return errors.Join(errs...)
}

func (c *Config) path() string {
	if c.Path == "" {
		return netlab.Loopback
	}
	return c.Path
}

// A Row is what one receiver did: medians over the rounds.
type Row struct {
	Scenario  string  `json:"scenario"` // idle
	Path      string  `json:"path"`
	Reader    string  `json:"reader"`       // stock, or auto for ours
	Drain     string  `json:"drain"`        // on or off; quic-go has none
	Conns     int     `json:"conns"`        // idle
	KeepAlive float64 `json:"keep_alive_s"` // between the client's PINGs; 0 is none
	Pinned    bool    `json:"pinned"`
	Rounds    int     `json:"rounds"`

	Bytes      float64 `json:"bytes_per_connection"` // the two that follow
	Heap       float64 `json:"heap_bytes_per_connection"`
	Stacks     float64 `json:"stack_bytes_per_connection"`
	RSS        float64 `json:"rss_bytes_per_connection"`
	Goroutines float64 `json:"goroutines_per_connection"`
	CPU        float64 `json:"cpu_us_per_connection_s"` // microseconds of processor a second of idling

	// Ratios are of the same receiver's figure to stock's, below 1 is better:
	// ratio_to_stock is of bytes_per_connection.
	ToStock         *stat.Ratio `json:"ratio_to_stock_range,omitempty"`
	RatioToStock    float64     `json:"ratio_to_stock,omitempty"`
	RSSToStock      *stat.Ratio `json:"rss_ratio_to_stock_range,omitempty"`
	RSSRatioToStock float64     `json:"rss_ratio_to_stock,omitempty"`
	CPUToStock      *stat.Ratio `json:"cpu_ratio_to_stock_range,omitempty"`
	CPURatioToStock float64     `json:"cpu_ratio_to_stock,omitempty"`

	// Samples has the measured figures by their names here, one a round.
	Samples map[string][]float64 `json:"samples,omitempty"`

	Skipped string `json:"skipped,omitempty"`
	Invalid string `json:"invalid,omitempty"`
}

// A result is one turn's figures, each by connection.
type result struct {
	heap, stacks, rss, goroutines, cpu float64
}

func (r result) bytes() float64 { return r.heap + r.stacks }

// rows makes a row of each receiver's turns, one a round.
func rows(c *Config, results *rounds.Results[result]) []Row {
	list := make([]Row, 0, len(c.Receivers))
	for _, name := range c.Receivers {
		row := Row{
			Scenario: "idle", Path: c.path(), Reader: servers.ReaderOf(name), Drain: servers.DrainOf(name),
			Conns: c.Conns, KeepAlive: c.KeepAlive.Seconds(), Pinned: c.Pin, Skipped: results.Skipped[name],
		}
		if rs := results.Runs[name]; len(rs) > 0 {
			row.fill(rs)
			row.compare(name, results)
		}
		list = append(list, row)
	}
	return list
}

func (row *Row) fill(rs []result) {
	row.Rounds = len(rs)
	row.Samples = make(map[string][]float64)
	for _, f := range []struct {
		name  string
		value *float64
		of    func(result) float64
	}{
		{"bytes_per_connection", &row.Bytes, result.bytes},
		{"heap_bytes_per_connection", &row.Heap, func(r result) float64 { return r.heap }},
		{"stack_bytes_per_connection", &row.Stacks, func(r result) float64 { return r.stacks }},
		{"rss_bytes_per_connection", &row.RSS, func(r result) float64 { return r.rss }},
		{"goroutines_per_connection", &row.Goroutines, func(r result) float64 { return r.goroutines }},
		{"cpu_us_per_connection_s", &row.CPU, func(r result) float64 { return r.cpu }},
	} {
		for _, r := range rs {
			row.Samples[f.name] = append(row.Samples[f.name], f.of(r))
		}
		*f.value = stat.Median(row.Samples[f.name])
	}
}

func (row *Row) compare(name string, results *rounds.Results[result]) {
	for _, r := range []struct {
		ratio  **stat.Ratio
		median *float64
		of     func(result) float64
	}{
		{&row.ToStock, &row.RatioToStock, result.bytes},
		{&row.RSSToStock, &row.RSSRatioToStock, func(r result) float64 { return r.rss }},
		{&row.CPUToStock, &row.CPURatioToStock, func(r result) float64 { return r.cpu }},
	} {
		if *r.ratio = results.Ratio(name, servers.Stock, r.of); *r.ratio != nil {
			*r.median = (*r.ratio).Median
		}
	}
}
