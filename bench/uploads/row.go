package uploads

import (
	"github.com/tailfin-quic/tailfin/bench/stat"
)

// A Row is what one receiver did: medians over the rounds.
type Row struct {
	Scenario string `json:"scenario"` // uploads
	Storage  string `json:"storage"`
	Reader   string `json:"reader"` // stock, or auto for ours
	Drain    string `json:"drain"`  // on or off; quic-go has none
	Flows    int    `json:"flows"`  // connections
	InFlight int    `json:"in_flight"`
	Size     int    `json:"payload_bytes"`
	GOGC     int    `json:"gogc"`
	Pinned   bool   `json:"pinned"`
	Rounds   int    `json:"rounds"`

	PerCPU  float64 `json:"uploads_per_cpu_s"`
	CPU     float64 `json:"cpu_us_per_upload"`
	Rate    float64 `json:"uploads_per_s"`
	Goodput float64 `json:"gbit_s"` // of bodies
	Allocs  float64 `json:"allocs_per_upload"`
	P50     float64 `json:"p50_us"` // from a request's begin to its whole answer, at the sender
	P99     float64 `json:"p99_us"`

	// Ratios are of processor time an upload, below 1 is better.
	ToStock      *stat.Ratio `json:"ratio_to_stock_range,omitempty"`
	RatioToStock float64     `json:"ratio_to_stock,omitempty"`
	// PerCPUToStock is of uploads by processor second, above 1 is better.
	PerCPUToStock float64 `json:"uploads_per_cpu_s_to_stock,omitempty"`

	Skipped string `json:"skipped,omitempty"`
}

// usage is what a receiver process has used in a run, as JSON.
type usage struct {
	CPU    float64 `json:"cpu_s"`
	Allocs uint64  `json:"allocs"`
}

// sentReport is what a sender process reports of a run, as JSON.
type sentReport struct {
	Uploads int     `json:"uploads"` // each answered 201
	Seconds float64 `json:"seconds"`
	P50     int64   `json:"p50_us"`
	P99     int64   `json:"p99_us"`
	Used    usage   `json:"used"`
	Error   string  `json:"error"`
}

func (r sentReport) cpu() float64  { return r.Used.CPU / float64(r.Uploads) }
func (r sentReport) rate() float64 { return float64(r.Uploads) / r.Seconds }

// rows makes a row of each receiver's runs, one a round.
func rows(c *Config, runs map[string][]sentReport, skipped map[string]string) []Row {
	list := make([]Row, 0, len(c.Receivers))
	for _, name := range c.Receivers {
		row := Row{
			Scenario: "uploads", Storage: c.Storage, Reader: "auto", Drain: name,
			Flows: c.Conns, InFlight: c.InFlight, Size: c.Size, GOGC: c.gogc(), Pinned: c.Pin, Skipped: skipped[name],
		}
		if name == Stock {
			row.Reader, row.Drain = Stock, DrainOff
		}
		if rs := runs[name]; len(rs) > 0 && row.Skipped == "" {
			row.Rounds = len(rs)
			row.measured(rs, runs[Stock])
		}
		list = append(list, row)
	}
	return list
}

func (row *Row) measured(rs, stock []sentReport) {
	row.CPU = stat.MedianOf(rs, sentReport.cpu) * 1e6
	row.PerCPU = stat.MedianOf(rs, func(r sentReport) float64 { return 1 / r.cpu() })
	row.Rate = stat.MedianOf(rs, sentReport.rate)
	row.Goodput = row.Rate * float64(row.Size) * 8 / 1e9
	row.Allocs = stat.MedianOf(rs, func(r sentReport) float64 { return float64(r.Used.Allocs) / float64(r.Uploads) })
	row.P50 = stat.MedianOf(rs, func(r sentReport) float64 { return float64(r.P50) })
	row.P99 = stat.MedianOf(rs, func(r sentReport) float64 { return float64(r.P99) })
	if row.ToStock = stat.RatioOf(rs, stock, sentReport.cpu); row.ToStock != nil {
		row.RatioToStock = row.ToStock.Median
		row.PerCPUToStock = stat.RatioOf(rs, stock, func(r sentReport) float64 { return 1 / r.cpu() }).Median
	}
}

// defaultGOGC is the runtime's.
const defaultGOGC = 100

func (c *Config) gogc() int {
	if c.GOGC == 0 {
		return defaultGOGC
	}
	return c.GOGC
}
