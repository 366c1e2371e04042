package decode

import (
	"fmt"

	"github.com/tailfin-quic/tailfin/bench/rounds"
	"github.com/tailfin-quic/tailfin/bench/stat"
)

// memory is the path of all rows: there is no network.
const memory = "memory"

// A Row is what one reader did with one transcript: medians over the rounds.
type Row struct {
	Scenario   string `json:"scenario"` // decode
	Path       string `json:"path"`     // memory
	Transcript string `json:"transcript"`
	Reader     string `json:"reader"`
	Frames     int    `json:"frames"` // of the transcript, or field sections
	Bytes      int64  `json:"bytes"`  // of what comes out of it
	Pinned     bool   `json:"pinned"`
	Rounds     int    `json:"rounds"`

	NS     float64 `json:"ns_per_frame"` // of processor time
	Gbit   float64 `json:"gbit_s"`       // what comes out by processor time; not what was looked at
	Allocs float64 `json:"allocs_per_frame"`

	// Ratios are of processor time, below 1 is better.
	ToVarint      *stat.Ratio `json:"ratio_to_varint_range,omitempty"`
	RatioToVarint float64     `json:"ratio_to_varint,omitempty"`
	// ToHTTP2 is to http2-meta for h3frame-message, which decodes as much.
	ToHTTP2      *stat.Ratio `json:"ratio_to_http2_range,omitempty"`
	RatioToHTTP2 float64     `json:"ratio_to_http2,omitempty"`
	ToQPACK      *stat.Ratio `json:"ratio_to_qpack_range,omitempty"`
	RatioToQPACK float64     `json:"ratio_to_qpack,omitempty"`
	ToHPACK      *stat.Ratio `json:"ratio_to_hpack_range,omitempty"` // without a dynamic table
	RatioToHPACK float64     `json:"ratio_to_hpack,omitempty"`

	Samples map[string][]float64 `json:"samples,omitempty"` // of figures, by round
	Skipped string               `json:"skipped,omitempty"`
	Invalid string               `json:"invalid,omitempty"`
}

// A result is what a process of a reader reports of a turn, as JSON.
type result struct {
	Frames  int64   `json:"frames"`
	Bytes   int64   `json:"bytes"`
	CPU     float64 `json:"cpu_s"`
	Allocs  uint64  `json:"allocs"`
	Invalid string  `json:"invalid"` // what came out wrong
}

func (r result) ns() float64     { return r.CPU / float64(r.Frames) * 1e9 }
func (r result) gbit() float64   { return float64(r.Bytes) * 8 / r.CPU / 1e9 }
func (r result) allocs() float64 { return float64(r.Allocs) / float64(r.Frames) }

// rows makes a row of each reader's turns.
func (c *Config) rows(t *transcript, results *rounds.Results[result]) ([]Row, error) {
	var list []Row
	for _, name := range Readers(c.Transcript) {
		r, err := newReader(name, t)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		row := Row{
			Scenario: "decode", Path: memory, Transcript: c.Transcript, Reader: name, Frames: t.frames, Bytes: r.bytes,
			Pinned: c.Pin, Rounds: len(results.Runs[name]), Skipped: results.Skipped[name], Invalid: results.Invalid[name],
		}
		if row.Rounds > 0 {
			row.measured(results)
		}
		list = append(list, row)
	}
	return list, nil
}

func (row *Row) measured(results *rounds.Results[result]) {
	name := row.Reader
	row.NS, row.Gbit, row.Allocs = results.Median(name, result.ns), results.Median(name, result.gbit), results.Median(name, result.allocs)
	row.Samples = results.Samples(name, rounds.Figures[result]{"ns_per_frame": result.ns, "gbit_s": result.gbit, "allocs_per_frame": result.allocs})
	http2 := HTTP2
	if name == Message || name == HTTP2Meta {
		http2 = HTTP2Meta
	}
	for to, ratio := range map[string]struct {
		all    **stat.Ratio
		median *float64
	}{
		Varint: {&row.ToVarint, &row.RatioToVarint}, http2: {&row.ToHTTP2, &row.RatioToHTTP2},
		QPACK: {&row.ToQPACK, &row.RatioToQPACK}, HPACK: {&row.ToHPACK, &row.RatioToHPACK},
	} {
		if *ratio.all = results.Ratio(name, to, result.ns); *ratio.all != nil {
			*ratio.median = (*ratio.all).Median
		}
	}
}
