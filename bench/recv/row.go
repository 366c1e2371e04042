package recv

import (
	"slices"

	"github.com/tailfin-quic/tailfin/bench/stat"
)

// A Row is what one reader did in one cell: medians over the rounds.
type Row struct {
	Scenario string `json:"scenario"` // recv
	Reader   string `json:"reader"`
	Backend  string `json:"backend,omitempty"` // of udp.Conn
	Pinned   bool   `json:"pinned"`
	Segments int    `json:"sender_segments"`
	Payload  int    `json:"payload_bytes"`
	Flows    int    `json:"flows"`
	Rate     int    `json:"rate"` // asked for; 0 is as many as the sender can

	Rounds      int     `json:"rounds"`
	OfferedPPS  float64 `json:"offered_pps"`
	Sent        uint64  `json:"sent"`     // in all rounds
	Received    uint64  `json:"received"` // likewise
	Lost        uint64  `json:"lost"`     // likewise: dropped by the kernel for a full receive buffer
	Reordered   uint64  `json:"reordered"`
	Accounting  string  `json:"accounting"` // exact, or what does not add up
	CPU         float64 `json:"cpu_ns_per_datagram"`
	CPULow      float64 `json:"cpu_ns_low"`
	CPUHigh     float64 `json:"cpu_ns_high"`
	Utilization float64 `json:"cpu_utilization"` // of one processor
	Gbit        float64 `json:"gbit_s"`          // payload that was read
	Train       float64 `json:"datagrams_per_receive,omitempty"`
	Coalesced   bool    `json:"coalesced"` // trains came as trains
	Syscalls    float64 `json:"syscalls_per_datagram,omitempty"`
	Allocs      float64 `json:"allocs_per_datagram"`
	P50         float64 `json:"p50_us,omitempty"` // from the sender's clock to ReadBatch's return, oldest datagram of each batch
	P99         float64 `json:"p99_us,omitempty"`

	ToStock   *stat.Ratio `json:"ratio_to_stock_range,omitempty"`
	ToMmsgGRO *stat.Ratio `json:"ratio_to_mmsg_gro_range,omitempty"`
	ToC       *stat.Ratio `json:"ratio_to_c_range,omitempty"`
	// Medians of the above.
	RatioToStock   float64 `json:"ratio_to_stock,omitempty"`
	RatioToMmsgGRO float64 `json:"ratio_to_mmsg_gro,omitempty"`
	RatioToC       float64 `json:"ratio_to_c,omitempty"`
	P99ToStock     float64 `json:"p99_ratio_to_stock,omitempty"`

	Invalid string `json:"invalid,omitempty"` // why its figures say nothing
	Skipped string `json:"skipped,omitempty"` // why there are none
}

// rows makes the rows of a cell. runs has the runs of each reader, one a round,
// and skipped why a reader has none.
func rows(c Cell, readers []string, runs map[string][]run, skipped map[string]string) []Row {
	var list []Row
	for _, reader := range readers {
		row := Row{
			Scenario: "recv", Reader: reader, Pinned: c.Pin, Segments: c.Segments,
			Payload: c.Payload, Flows: c.Flows, Rate: c.Rate, Skipped: skipped[reader],
		}
		if rs := runs[reader]; len(rs) > 0 && row.Skipped == "" {
			row.fill(c, rs)
			if row.Invalid == "" {
				row.compare(rs, runs)
			}
		}
		list = append(list, row)
	}
	return list
}

func (row *Row) fill(c Cell, rs []run) {
	row.Rounds, row.Accounting = len(rs), "exact"
	var cpu []float64
	for _, r := range rs {
		row.Sent += r.sent
		row.Received += r.Received
		row.Lost += r.sent - min(r.sent, r.Received)
		row.Reordered += r.Reordered
		if r.account != "" {
			row.Accounting = r.account
		}
		cpu = append(cpu, r.cpuPerDatagram())
	}
	row.Backend = rs[0].Backend
	row.CPU, row.CPULow, row.CPUHigh = stat.Median(cpu), slices.Min(cpu), slices.Max(cpu)
	row.OfferedPPS = stat.MedianOf(rs, func(r run) float64 { return r.offered })
	row.Utilization = stat.MedianOf(rs, func(r run) float64 { return r.CPU / r.Seconds })
	row.Gbit = stat.MedianOf(rs, func(r run) float64 { return float64(r.Measured) * float64(c.Payload) * 8 / r.Seconds / 1e9 })
	row.Train = stat.MedianOf(rs, func(r run) float64 { return r.Train })
	row.Allocs = stat.MedianOf(rs, func(r run) float64 { return r.Allocs / float64(max(1, r.Measured)) })
	row.Syscalls = stat.MedianOf(rs, func(r run) float64 { return r.Syscalls / float64(max(1, r.Measured)) })
	if c.Rate > 0 {
		row.P50 = stat.MedianOf(rs, func(r run) float64 { return r.P50 })
		row.P99 = stat.MedianOf(rs, func(r run) float64 { return r.P99 })
	}
	row.Coalesced = c.Segments > 1 && row.Train >= float64(c.Segments)/2
	switch {
	case c.Segments > 1 && rs[0].GRO && !row.Coalesced:
		row.Invalid = "trains were sent and did not come as trains"
	case c.Rate > 0 && row.OfferedPPS < 0.95*float64(c.Rate):
		row.Invalid = "the sender did not reach the rate"
	}
}

func (row *Row) compare(rs []run, runs map[string][]run) {
	for _, to := range []struct {
		reader string
		ratio  **stat.Ratio
		median *float64
	}{
		{"stock", &row.ToStock, &row.RatioToStock},
		{"mmsg-gro", &row.ToMmsgGRO, &row.RatioToMmsgGRO},
		{"c", &row.ToC, &row.RatioToC},
	} {
		if r := stat.RatioOf(rs, runs[to.reader], run.cpuPerDatagram); r != nil {
			*to.ratio, *to.median = r, r.Median
		}
	}
	if r := stat.RatioOf(rs, runs["stock"], func(r run) float64 { return r.P99 }); r != nil && row.Rate > 0 {
		row.P99ToStock = r.Median
	}
}
