package transfer

import (
	"fmt"

	"github.com/tailfin-quic/tailfin/bench/rounds"
	"github.com/tailfin-quic/tailfin/bench/servers"
	"github.com/tailfin-quic/tailfin/bench/stat"
)

// A Row is what one receiver did: medians over the rounds.
type Row struct {
	Scenario    string `json:"scenario"` // transfer
	Kind        string `json:"kind"`
	Path        string `json:"path"`
	Direction   string `json:"direction"`
	Sender      string `json:"sender"`
	Reader      string `json:"reader"`          // stock, auto for ours, or the name of a foreign receiver
	Drain       string `json:"drain,omitempty"` // on or off; quic-go has none, and of others it is not said
	Flows       int    `json:"flows"`           // connections with a body each
	Shards      int    `json:"shards"`          // sockets of the receiver
	Pinned      bool   `json:"pinned"`
	Bottleneck  string `json:"bottleneck"` // none, or receiver: see ReceiverCPU
	ReceiverCPU int    `json:"receiver_cpu_percent,omitempty"`
	Rounds      int    `json:"rounds"`

	CPU      float64 `json:"cpu_s_per_gb"`
	Gbit     float64 `json:"gbit_s"`
	Allocs   float64 `json:"allocs_per_datagram"`
	Counted  string  `json:"datagrams"`                         // packets, as quic-go counts them, or body/1200
	Train    float64 `json:"datagrams_per_receive,omitempty"`   // of a udp.Conn
	Payload  float64 `json:"body_bytes_per_datagram,omitempty"` // where packets are counted
	Receiver float64 `json:"receiver_utilization"`              // processors in use: 1 is one, all of the time
	Sending  float64 `json:"sender_utilization"`
	Share    float64 `json:"receiver_share,omitempty"` // of what it was due; 1 is all, where it is the bottleneck

	// For Latency.
	Connection string  `json:"connection,omitempty"` // of the small requests: same or other
	Offered    float64 `json:"bulk_offered_gbit_s,omitempty"`
	Rate       int     `json:"small_requests_per_s,omitempty"`
	P50        float64 `json:"p50_us,omitempty"` // from when a small request was due to its whole answer
	P99        float64 `json:"p99_us,omitempty"`

	// Ratios of the processor time by bytes, below 1 is better.
	ToStock       *stat.Ratio `json:"ratio_to_stock_range,omitempty"`
	RatioToStock  float64     `json:"ratio_to_stock,omitempty"`
	ToOff         *stat.Ratio `json:"ratio_to_drain_off_range,omitempty"`
	RatioToOff    float64     `json:"ratio_to_drain_off,omitempty"`
	ToOneFlow     *stat.Ratio `json:"cost_to_one_flow_range,omitempty"` // of this receiver
	CostToOneFlow float64     `json:"cost_to_one_flow,omitempty"`
	// Ratios of goodput, above 1 is better.
	GoodputToStock      *stat.Ratio `json:"goodput_ratio_to_stock_range,omitempty"`
	GoodputRatioToStock float64     `json:"goodput_ratio_to_stock,omitempty"`
	// Ratios of latency, below 1 is better.
	P50ToStock      *stat.Ratio `json:"p50_ratio_to_stock_range,omitempty"`
	P50RatioToStock float64     `json:"p50_ratio_to_stock,omitempty"`
	P99ToStock      *stat.Ratio `json:"p99_ratio_to_stock_range,omitempty"`
	P99RatioToStock float64     `json:"p99_ratio_to_stock,omitempty"`

	// Samples has the measured figures by their names here, one a round.
	Samples map[string][]float64 `json:"samples,omitempty"`

	Skipped string `json:"skipped,omitempty"` // why there are no figures
	Invalid string `json:"invalid,omitempty"` // why they say nothing
}

// A result is one turn's figures.
type result struct {
	received // of the receiver
	sender   sentReport
	due      float64 // processor time that each of the receiver's neighbours got
}

func (r result) perGB() float64         { return r.CPU / float64(r.Bytes) * 1e9 }
func (r result) gbit() float64          { return float64(r.Bytes) * 8 / r.Seconds / 1e9 }
func (r result) receiverShare() float64 { return r.CPU / r.Seconds }
func (r result) senderShare() float64   { return r.sender.CPU / r.sender.Seconds }
func (r result) p50() float64           { return r.sender.P50 }
func (r result) p99() float64           { return r.sender.P99 }

// typicalDatagram is the body bytes that stand for a datagram where they are not
// counted.
const typicalDatagram = 1200

func (r result) allocsPerDatagram() float64 {
	n := float64(r.Packets)
	if r.Packets == 0 {
		n = float64(r.Bytes) / typicalDatagram
	}
	return float64(r.Allocs) / n
}

// ofDue is the receiver's part of what it was due. Beside processes that never rest
// and weigh as much, that is as much as one of them got: less means that the receiver
// did not want it, and so was not what held the transfer up. It may get more, if it has
// several threads that want to run, and somewhat more anyway.
func (r result) ofDue() float64 { return r.CPU / r.due }

// rows makes a row of each contestant's turns, one a round.
func rows(c *Config, results *rounds.Results[result]) []Row {
	names, all := c.contestants()
	list := make([]Row, 0, len(names))
	valid := make(map[string]bool)
	for _, name := range names {
		one := all[name]
		row := Row{
			Scenario: "transfer", Kind: c.Kind, Path: c.Path, Direction: c.Direction, Sender: c.Sender,
			Reader: servers.ReaderOf(one.receiver), Drain: servers.DrainOf(one.receiver), Flows: one.flows, Shards: one.shards,
			Pinned: c.Pin, Bottleneck: c.Bottleneck, Skipped: results.Skipped[name],
		}
		if one.receiver == NGTCP2 || one.receiver == IPerf3 {
			row.Reader, row.Drain = one.receiver, ""
		}
		if c.Bottleneck == BottleneckReceiver {
			row.ReceiverCPU = c.receiverCPU()
		}
		if c.Kind == Latency {
			row.Connection, row.Offered, row.Rate = c.Connection, c.BulkGbit, c.Rate
		}
		if rs := results.Runs[name]; len(rs) > 0 {
			row.fill(c, rs)
			valid[name] = row.Invalid == ""
		}
		list = append(list, row)
	}
	for i, name := range names {
		if valid[name] {
			list[i].compare(c, all[name], results, valid)
		}
	}
	return list
}

func (row *Row) fill(c *Config, rs []result) {
	row.Rounds = len(rs)
	row.Counted = "packets"
	if rs[0].Packets == 0 {
		row.Counted = fmt.Sprintf("body/%d", typicalDatagram)
	}
	row.Train = stat.MedianOf(rs, func(r result) float64 { return r.Train })
	if rs[0].Packets > 0 {
		row.Payload = stat.MedianOf(rs, func(r result) float64 { return float64(r.Bytes) / float64(r.Packets) })
	}
	row.Samples = make(map[string][]float64)
	figure := func(name string, value *float64, of func(result) float64) {
		for _, r := range rs {
			row.Samples[name] = append(row.Samples[name], of(r))
		}
		*value = stat.Median(row.Samples[name])
	}
	figure("cpu_s_per_gb", &row.CPU, result.perGB)
	figure("gbit_s", &row.Gbit, result.gbit)
	figure("receiver_utilization", &row.Receiver, result.receiverShare)
	figure("sender_utilization", &row.Sending, result.senderShare)
	if rs[0].Allocs > 0 {
		figure("allocs_per_datagram", &row.Allocs, result.allocsPerDatagram)
	} else {
		row.Counted = ""
	}
	if c.Kind == Latency {
		figure("p50_us", &row.P50, result.p50)
		figure("p99_us", &row.P99, result.p99)
		if c.BulkGbit > 0 && row.Gbit < leastOffered*c.BulkGbit {
			row.Invalid = fmt.Sprintf("the bodies came at %.2f Gbit/s of %g offered", row.Gbit, c.BulkGbit)
		}
	}
	if c.Bottleneck == BottleneckReceiver {
		figure("receiver_share", &row.Share, result.ofDue)
		switch {
		case row.Share > mostShare:
			row.Invalid = fmt.Sprintf("the receiver had %.0f %% of its share of the processor, more than is its due", row.Share*100)
		case row.Share < leastShare && row.Reader == servers.Stock:
			row.Invalid = fmt.Sprintf("the receiver used %.0f %% of its share of the processor, so it was not the bottleneck", row.Share*100)
		}
	}
}

const (
	// leastShare is what a receiver that was the bottleneck has used of its share. One of
	// ours may have used less: then its goodput was not held up by it, and could be more.
	leastShare = 0.95
	// mostShare is what it may have had: several threads that want to run get more.
	mostShare = 1.1
	// leastOffered is what has to arrive of bodies that are offered at a rate.
	leastOffered = 0.95
)

// compare makes the ratios to others whose figures say something.
func (row *Row) compare(c *Config, of contestant, results *rounds.Results[result], valid map[string]bool) {
	ratio := func(ratio **stat.Ratio, median *float64, to contestant, f func(result) float64) {
		if !valid[to.name()] {
			return
		}
		if *ratio = results.Ratio(of.name(), to.name(), f); *ratio != nil {
			*median = (*ratio).Median
		}
	}
	stock, off, oneFlow := of, of, of
	stock.receiver, off.receiver, oneFlow.flows = servers.Stock, servers.DrainOff, 1
	if c.Kind == Latency {
		ratio(&row.P50ToStock, &row.P50RatioToStock, stock, result.p50)
		ratio(&row.P99ToStock, &row.P99RatioToStock, stock, result.p99)
	}
	ratio(&row.ToStock, &row.RatioToStock, stock, result.perGB)
	ratio(&row.ToOff, &row.RatioToOff, off, result.perGB)
	if of.flows > 1 {
		ratio(&row.ToOneFlow, &row.CostToOneFlow, oneFlow, result.perGB)
	}
	if c.Bottleneck == BottleneckReceiver {
		ratio(&row.GoodputToStock, &row.GoodputRatioToStock, stock, result.gbit)
	}
}
