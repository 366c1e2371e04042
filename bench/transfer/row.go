package transfer

import (
	"errors"
	"fmt"
	"slices"

	"github.com/tailfin-quic/tailfin/bench/rounds"
	"github.com/tailfin-quic/tailfin/bench/stat"
)

// The receivers.
const (
	Stock    = "stock"
	DrainOff = "off"
	DrainOn  = "on"
)

// Receivers lists all of them, in the order in which they are reported.
var Receivers = []string{Stock, DrainOff, DrainOn}

// A Config says what to measure.
type Config struct {
	Receivers []string
	Bytes     int64 // of all bodies of a run
	Streams   int   // uploads at a time, of equal size, on one connection each
	Pin       bool
	rounds.Plan
}

// maxStreams bounds Config.Streams.
const maxStreams = 1000

// Check says what is wrong with a Config.
func (c *Config) Check() error {
	var errs []error
	for _, r := range c.Receivers {
		if !slices.Contains(Receivers, r) {
			errs = append(errs, fmt.Errorf("no receiver %q; there are %v", r, Receivers))
		}
	}
	if len(c.Receivers) == 0 {
		errs = append(errs, errors.New("no receivers"))
	}
	if c.Bytes < 1<<20 || c.Bytes > 1<<40 {
		errs = append(errs, fmt.Errorf("%d bytes; give 1 MiB to 1 TiB", c.Bytes))
	}
	if c.Streams < 1 || c.Streams > maxStreams {
		errs = append(errs, fmt.Errorf("%d streams; give 1 to %d", c.Streams, maxStreams))
	}
	return errors.Join(append(errs, c.Plan.Check())...)
}

// A Row is what one receiver did: medians over the rounds.
type Row struct {
	Scenario string  `json:"scenario"` // transfer
	Reader   string  `json:"reader"`   // stock, or auto for ours
	Drain    string  `json:"drain"`    // on or off; quic-go has none
	Flows    int     `json:"flows"`    // connections
	Pinned   bool    `json:"pinned"`
	Rounds   int     `json:"rounds"`
	CPU      float64 `json:"cpu_s_per_gb"`
	Gbit     float64 `json:"gbit_s"`
	Allocs   float64 `json:"allocs_per_datagram"` // by 1200 bytes of body

	ToStock      *stat.Ratio `json:"ratio_to_stock_range,omitempty"`
	RatioToStock float64     `json:"ratio_to_stock,omitempty"`
	ToOff        *stat.Ratio `json:"ratio_to_drain_off_range,omitempty"`
	RatioToOff   float64     `json:"ratio_to_drain_off,omitempty"`

	Skipped string `json:"skipped,omitempty"`
}

// A result is what a receiver process reports of a run, as JSON.
type result struct {
	Bytes   int64   `json:"bytes"` // of bodies, in the measured interval
	Whole   int     `json:"whole"` // bodies that ended with io.EOF
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu_s"`
	Allocs  uint64  `json:"allocs"`
	Error   string  `json:"error"`
}

func (r result) perGB() float64 { return r.CPU / float64(r.Bytes) * 1e9 }

// typicalDatagram is the body bytes that allocations are counted by.
const typicalDatagram = 1200

// rows makes a row of each receiver's runs, one a round.
func rows(c *Config, results *rounds.Results[result]) []Row {
	list := make([]Row, 0, len(c.Receivers))
	for _, name := range c.Receivers {
		row := Row{Scenario: "transfer", Reader: "auto", Drain: name, Flows: c.Streams, Pinned: c.Pin, Skipped: results.Skipped[name]}
		if name == Stock {
			row.Reader, row.Drain = Stock, DrainOff
		}
		if rs := results.Runs[name]; len(rs) > 0 {
			row.Rounds = len(rs)
			row.CPU = stat.MedianOf(rs, result.perGB)
			row.Gbit = stat.MedianOf(rs, func(r result) float64 { return float64(r.Bytes) * 8 / r.Seconds / 1e9 })
			row.Allocs = stat.MedianOf(rs, func(r result) float64 { return float64(r.Allocs) / float64(r.Bytes) * typicalDatagram })
			if row.ToStock = results.Ratio(name, Stock, result.perGB); row.ToStock != nil {
				row.RatioToStock = row.ToStock.Median
			}
			if row.ToOff = results.Ratio(name, DrainOff, result.perGB); row.ToOff != nil {
				row.RatioToOff = row.ToOff.Median
			}
		}
		list = append(list, row)
	}
	return list
}
