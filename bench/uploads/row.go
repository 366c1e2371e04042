package uploads

import (
	"github.com/tailfin-quic/tailfin/bench/rounds"
	"github.com/tailfin-quic/tailfin/bench/stat"
)

// A Base is what all rows of this package have: who was measured, at what, and how long
// the sender waited. All figures are medians over the rounds.
type Base struct {
	Scenario string `json:"scenario"` // uploads or requests
	Path     string `json:"path"`
	Reader   string `json:"reader"` // stock, or auto for ours
	Drain    string `json:"drain"`  // on or off; quic-go has none
	Flows    int    `json:"flows"`  // connections
	InFlight int    `json:"in_flight"`
	Size     int    `json:"payload_bytes"`
	GOGC     int    `json:"gogc"`
	Pinned   bool   `json:"pinned"`
	Rounds   int    `json:"rounds"`

	P50 float64 `json:"p50_us"` // from a request's begin to its whole answer, at the sender
	P99 float64 `json:"p99_us"`

	// Ratios are of processor time a request, below 1 is better.
	ToStock      *stat.Ratio `json:"ratio_to_stock_range,omitempty"`
	RatioToStock float64     `json:"ratio_to_stock,omitempty"`

	Samples map[string][]float64 `json:"samples,omitempty"` // of figures, by round
	Skipped string               `json:"skipped,omitempty"`
	Invalid string               `json:"invalid,omitempty"`
}

// A Row is what one receiver did with uploads.
type Row struct {
	Base
	Storage string `json:"storage"`

	PerCPU  float64 `json:"uploads_per_cpu_s"`
	CPU     float64 `json:"cpu_us_per_upload"`
	Rate    float64 `json:"uploads_per_s"`
	Goodput float64 `json:"gbit_s"` // of bodies
	Allocs  float64 `json:"allocs_per_upload"`
	// PerCPUToStock is of uploads by processor second, above 1 is better.
	PerCPUToStock float64 `json:"uploads_per_cpu_s_to_stock,omitempty"`
}

// A RequestRow is what one receiver did with requests.
type RequestRow struct {
	Base
	Method string `json:"method"`
	Answer int    `json:"answer_bytes"`

	PerCPU float64 `json:"requests_per_cpu_s"`
	CPU    float64 `json:"cpu_us_per_request"`
	Rate   float64 `json:"requests_per_s"`
	Allocs float64 `json:"allocs_per_request"`
	// PerCPUToStock is of requests by processor second, above 1 is better.
	PerCPUToStock float64 `json:"requests_per_cpu_s_to_stock,omitempty"`
}

// usage is what a receiver process has used in a run and counted, as JSON.
type usage struct {
	CPU      float64 `json:"cpu_s"`
	Allocs   uint64  `json:"allocs"`
	Requests int64   `json:"requests"`
	Bytes    int64   `json:"bytes"` // of bodies, where they are counted
}

func (u usage) since(began usage) usage {
	return usage{u.CPU - began.CPU, u.Allocs - began.Allocs, u.Requests - began.Requests, u.Bytes - began.Bytes}
}

// sentReport is what a sender process reports of a run, as JSON.
type sentReport struct {
	Requests int     `json:"requests"` // each answered as it must be
	Seconds  float64 `json:"seconds"`
	P50      int64   `json:"p50_us"`
	P99      int64   `json:"p99_us"`
	Used     usage   `json:"used"`
	Error    string  `json:"error"`
	Wrong    bool    `json:"wrong"` // the error is that of a wrong answer
}

func (r sentReport) cpu() float64    { return r.Used.CPU / float64(r.Requests) }
func (r sentReport) cpuUS() float64  { return r.cpu() * 1e6 }
func (r sentReport) perCPU() float64 { return 1 / r.cpu() }
func (r sentReport) rate() float64   { return float64(r.Requests) / r.Seconds }
func (r sentReport) allocs() float64 { return float64(r.Used.Allocs) / float64(r.Requests) }
func (r sentReport) p50() float64    { return float64(r.P50) }
func (r sentReport) p99() float64    { return float64(r.P99) }

// base makes the part of a row that all have.
func (c *Config) base(scenario, name string, results *rounds.Results[sentReport]) Base {
	b := Base{
		Scenario: scenario, Path: c.Path, Reader: "auto", Drain: name, Flows: c.Conns, InFlight: c.InFlight, Size: c.Size,
		GOGC: c.gogc(), Pinned: c.Pin, Rounds: len(results.Runs[name]), Skipped: results.Skipped[name], Invalid: results.Invalid[name],
	}
	if name == Stock {
		b.Reader, b.Drain = Stock, DrainOff
	}
	if b.Rounds == 0 {
		return b
	}
	b.P50, b.P99 = results.Median(name, sentReport.p50), results.Median(name, sentReport.p99)
	if b.ToStock = results.Ratio(name, Stock, sentReport.cpu); b.ToStock != nil {
		b.RatioToStock = b.ToStock.Median
	}
	return b
}

// perCPUToStock is the median of ratios, 0 if there are none.
func perCPUToStock(name string, results *rounds.Results[sentReport]) float64 {
	if ratio := results.Ratio(name, Stock, sentReport.perCPU); ratio != nil {
		return ratio.Median
	}
	return 0
}

// rows makes a row of each receiver's uploads.
func rows(c *Config, results *rounds.Results[sentReport]) []Row {
	list := make([]Row, 0, len(c.Receivers))
	for _, name := range c.Receivers {
		row := Row{Base: c.base("uploads", name, results), Storage: c.Storage}
		if row.Rounds > 0 {
			row.PerCPU, row.CPU = results.Median(name, sentReport.perCPU), results.Median(name, sentReport.cpuUS)
			row.Rate, row.Allocs = results.Median(name, sentReport.rate), results.Median(name, sentReport.allocs)
			row.Goodput = row.Rate * float64(row.Size) * 8 / 1e9
			row.PerCPUToStock = perCPUToStock(name, results)
			row.Samples = results.Samples(name, rounds.Figures[sentReport]{
				"uploads_per_cpu_s": sentReport.perCPU, "cpu_us_per_upload": sentReport.cpuUS, "uploads_per_s": sentReport.rate,
				"allocs_per_upload": sentReport.allocs, "p50_us": sentReport.p50, "p99_us": sentReport.p99,
			})
		}
		list = append(list, row)
	}
	return list
}

// requestRows makes a row of each receiver's requests.
func requestRows(c *Config, results *rounds.Results[sentReport]) []RequestRow {
	list := make([]RequestRow, 0, len(c.Receivers))
	for _, name := range c.Receivers {
		row := RequestRow{Base: c.base("requests", name, results), Method: c.method(), Answer: c.Answer}
		if row.Rounds > 0 {
			row.PerCPU, row.CPU = results.Median(name, sentReport.perCPU), results.Median(name, sentReport.cpuUS)
			row.Rate, row.Allocs = results.Median(name, sentReport.rate), results.Median(name, sentReport.allocs)
			row.PerCPUToStock = perCPUToStock(name, results)
			row.Samples = results.Samples(name, rounds.Figures[sentReport]{
				"requests_per_cpu_s": sentReport.perCPU, "cpu_us_per_request": sentReport.cpuUS, "requests_per_s": sentReport.rate,
				"allocs_per_request": sentReport.allocs, "p50_us": sentReport.p50, "p99_us": sentReport.p99,
			})
		}
		list = append(list, row)
	}
	return list
}
