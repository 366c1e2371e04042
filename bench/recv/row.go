package recv

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tailfin-quic/tailfin/bench/rounds"
	"github.com/tailfin-quic/tailfin/bench/stat"
)

// A Row is what one reader did in one cell: medians over the rounds.
type Row struct {
	Scenario string `json:"scenario"` // recv
	Path     string `json:"path"`
	Reader   string `json:"reader"`
	Foreign  bool   `json:"foreign,omitempty"` // another program with a sender of its own, in no pair with the others
	Backend  string `json:"backend,omitempty"` // of udp.Conn
	Pinned   bool   `json:"pinned"`
	Segments int    `json:"sender_segments"`
	Payload  int    `json:"payload_bytes"`
	Flows    int    `json:"flows"`
	Rate     int    `json:"rate"` // asked for; 0 is as many as the sender can

	Rounds      int     `json:"rounds"`
	OfferedPPS  float64 `json:"offered_pps"`
	ReceivedPPS float64 `json:"received_pps"`
	Sent        uint64  `json:"sent"`     // in all rounds
	Received    uint64  `json:"received"` // likewise
	Lost        uint64  `json:"lost"`     // likewise: sent and not read
	Drops       uint64  `json:"socket_drops"`
	PathLost    uint64  `json:"path_lost"`   // of the lost: on the way, as the path's counters say
	Unaccounted uint64  `json:"unaccounted"` // of the lost: more than path_lost and the drops at the socket explain
	Reordered   uint64  `json:"reordered"`
	Accounting  string  `json:"accounting"` // exact, or what is not
	CPU         float64 `json:"cpu_ns_per_datagram"`
	CPULow      float64 `json:"cpu_ns_low"`
	CPUHigh     float64 `json:"cpu_ns_high"`
	Utilization float64 `json:"cpu_utilization"` // of one processor
	Gbit        float64 `json:"gbit_s"`          // payload that was read
	Train       float64 `json:"datagrams_per_receive,omitempty"`
	Coalesced   bool    `json:"coalesced"` // trains came as trains
	Syscalls    float64 `json:"syscalls_per_datagram,omitempty"`
	Allocs      float64 `json:"allocs_per_datagram"`
	P50         float64 `json:"p50_us,omitempty"` // from the send to the return of the read, oldest datagram of each batch
	P99         float64 `json:"p99_us,omitempty"`
	Buffer      int     `json:"receive_buffer,omitempty"` // as SO_RCVBUF says

	// Of the sender: the share of its time in which it was at work, by how much it was
	// behind its ticks, and sends that the kernel refused.
	SenderUtilization float64 `json:"sender_cpu_utilization"`
	SenderLate        float64 `json:"sender_late_p99_us,omitempty"`
	SenderRefused     uint64  `json:"sender_refused,omitempty"`

	ToStock   *stat.Ratio `json:"ratio_to_stock_range,omitempty"`
	ToMmsgGRO *stat.Ratio `json:"ratio_to_mmsg_gro_range,omitempty"`
	ToC       *stat.Ratio `json:"ratio_to_c_range,omitempty"`
	ToCMmsg   *stat.Ratio `json:"ratio_to_c_mmsg_range,omitempty"`
	// Medians of the above.
	RatioToStock   float64 `json:"ratio_to_stock,omitempty"`
	RatioToMmsgGRO float64 `json:"ratio_to_mmsg_gro,omitempty"`
	RatioToC       float64 `json:"ratio_to_c,omitempty"`
	RatioToCMmsg   float64 `json:"ratio_to_c_mmsg,omitempty"`
	P99ToStock     float64 `json:"p99_ratio_to_stock,omitempty"`

	// Samples has a value a round, in the order of rounds, by the name of the field.
	Samples map[string][]float64 `json:"samples,omitempty"`

	Invalid string `json:"invalid,omitempty"` // why its figures say nothing
	Skipped string `json:"skipped,omitempty"` // why there are none

	wrong bool // the accounts do not add up
}

// wantsTrains tells whether a reader has the kernel give it trains whole.
func wantsTrains(reader string) bool {
	switch reader {
	case "auto", "paced", "unpaced":
		return true
	}
	return strings.HasSuffix(reader, "-gro") || isFloor(reader)
}

// newRow is a row without figures.
func newRow(path string, c Cell, reader string) Row {
	return Row{
		Scenario: "recv", Path: path, Reader: reader, Pinned: c.Pin, Segments: c.Segments,
		Payload: c.Payload, Flows: c.Flows, Rate: c.Rate,
	}
}

// rows makes the rows of a cell.
func rows(path string, c Cell, readers []string, results *rounds.Results[run]) []Row {
	list := make([]Row, 0, len(readers))
	valid := make(map[string]bool)
	for _, reader := range readers {
		row := newRow(path, c, reader)
		row.Skipped = results.Skipped[reader]
		if rs := results.Runs[reader]; len(rs) > 0 {
			row.fill(c, rs)
		}
		list = append(list, row)
	}
	most := 0
	for _, row := range list {
		most = max(most, row.Buffer)
	}
	for i := range list {
		row := &list[i]
		if row.Invalid == "" && row.Buffer < most && row.Rounds > 0 {
			row.Invalid = fmt.Sprintf("its receive buffer is of %d bytes, where another has %d", row.Buffer, most)
		}
		valid[row.Reader] = row.Rounds > 0 && row.Invalid == ""
	}
	for i := range list {
		if valid[list[i].Reader] {
			list[i].compare(results, valid)
		}
	}
	return list
}

func (row *Row) fill(c Cell, rs []run) {
	row.Rounds, row.Accounting = len(rs), accounting(rs)
	for _, r := range rs {
		row.Sent += r.sent
		row.Received += r.Received
		row.Lost += r.missing
		row.Drops += r.Drops
		row.PathLost += r.gone
		row.Unaccounted += r.unaccounted
		row.Reordered += r.Reordered
		row.SenderRefused += r.refused
	}
	row.Backend, row.Buffer = rs[0].Backend, rs[0].RcvBuf
	row.Samples = make(map[string][]float64)
	median := func(name string, of func(run) float64) float64 {
		values := make([]float64, 0, len(rs))
		for _, r := range rs {
			values = append(values, of(r))
		}
		row.Samples[name] = values
		return stat.Median(values)
	}
	row.CPU = median("cpu_ns_per_datagram", run.cpuPerDatagram)
	row.CPULow, row.CPUHigh = slices.Min(row.Samples["cpu_ns_per_datagram"]), slices.Max(row.Samples["cpu_ns_per_datagram"])
	row.OfferedPPS = median("offered_pps", func(r run) float64 { return r.offered })
	row.ReceivedPPS = median("received_pps", run.perSecond)
	row.Utilization = median("cpu_utilization", func(r run) float64 { return r.CPU / r.Seconds })
	row.Gbit = median("gbit_s", func(r run) float64 { return r.perSecond() * float64(c.Payload) * 8 / 1e9 })
	row.Train = median("datagrams_per_receive", func(r run) float64 { return r.Train })
	row.Allocs = median("allocs_per_datagram", func(r run) float64 { return r.Allocs / float64(max(1, r.Measured)) })
	row.SenderUtilization = median("sender_cpu_utilization", func(r run) float64 { return r.senderUtilization })
	row.Syscalls = stat.MedianOf(rs, func(r run) float64 { return r.Syscalls / float64(max(1, r.Measured)) })
	if row.Syscalls > 0 {
		median("syscalls_per_datagram", func(r run) float64 { return r.Syscalls / float64(max(1, r.Measured)) })
	}
	if c.Rate > 0 {
		row.P50, row.P99 = median("p50_us", run.p50), median("p99_us", run.p99)
		row.SenderLate = median("sender_late_p99_us", func(r run) float64 { return r.senderLate })
	}
	// One round of another kind would be averaged in with the rest, and one without cost
	// would be missing in the ratios.
	empty := 0
	for _, cost := range row.Samples["cpu_ns_per_datagram"] {
		if cost == 0 {
			empty++
		}
	}
	apart := 0
	for _, train := range row.Samples["datagrams_per_receive"] {
		if train < float64(c.Segments)/2 {
			apart++
		}
	}
	row.Coalesced = c.Segments > 1 && apart == 0
	row.wrong = slices.ContainsFunc(rs, func(r run) bool { return r.wrong != "" })
	switch {
	case row.wrong:
		row.Invalid = row.Accounting
	case empty > 0:
		row.Invalid = fmt.Sprintf("%s in %d of %d rounds", nothingMeasured, empty, len(rs))
	case c.Segments > 1 && wantsTrains(row.Reader) && !row.Coalesced:
		row.Invalid = fmt.Sprintf("trains were sent and did not come as trains in %d of %d rounds", apart, len(rs))
	case c.Rate > 0 && row.OfferedPPS < 0.95*float64(c.Rate):
		row.Invalid = "the sender did not reach the rate"
	}
}

// nothingMeasured is Row.Invalid where a reader had no processor in the whole interval.
const nothingMeasured = "nothing was read, or no processor time was counted,"

// compare sets the ratios to what else is valid.
func (row *Row) compare(results *rounds.Results[run], valid map[string]bool) {
	for _, to := range []struct {
		reader string
		ratio  **stat.Ratio
		median *float64
	}{
		{"stock", &row.ToStock, &row.RatioToStock},
		{"mmsg-gro", &row.ToMmsgGRO, &row.RatioToMmsgGRO},
		{"c", &row.ToC, &row.RatioToC},
		{"c-mmsg", &row.ToCMmsg, &row.RatioToCMmsg},
	} {
		if !valid[to.reader] {
			continue
		}
		if r := results.Ratio(row.Reader, to.reader, run.cpuPerDatagram); r != nil {
			*to.ratio, *to.median = r, r.Median
		}
	}
	if row.Rate > 0 && valid["stock"] {
		if r := results.Ratio(row.Reader, "stock", run.p99); r != nil {
			row.P99ToStock = r.Median
		}
	}
}
