package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tailfin-quic/tailfin/bench/rounds"
	"github.com/tailfin-quic/tailfin/bench/transfer"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/devcert"
)

// benchTransferCmd is `tailfin bench transfer`.
type benchTransferCmd struct {
	Measure     []string      `default:"cost,goodput,latency,shards,download,ngtcp2,iperf3" placeholder:"NAME,…" help:"What to measure: cost, the CPU of a receiver of uploads, by connections; goodput, where the receiver has a part of a processor; latency, of small requests beside an upload; shards, cost with several sockets, unpinned; download, the CPU of a client that downloads; ngtcp2, cost with ngtcp2's client as the sender, and with its server as a receiver; iperf3, TCP on the same path (${default})."`
	Receivers   []string      `default:"stock,off,on" placeholder:"NAME,…" help:"Receivers to compare: stock (quic-go/http3), off and on (ours, without and with the drain) (${default})."`
	Bytes       int64         `default:"268435456" placeholder:"BYTES" help:"Of all bodies of a turn (${default})."`
	Flows       []int         `placeholder:"N,…" help:"Connections, with a body each; if not given, 1,16,256 for cost, and what suits the others."`
	Shards      []int         `default:"1,2" placeholder:"N,…" help:"Sockets of the receiver, for shards (${default})."`
	Path        string        `default:"loopback" placeholder:"NAME" help:"Network between receiver and sender (${default})."`
	Pin         bool          `default:"true" negatable:"" help:"Pin receiver and sender to a processor each (on by default); for goodput always, for shards never."`
	ReceiverCPU int           `name:"receiver-cpu" default:"50" placeholder:"PERCENT" help:"Of its processor, that the receiver has for goodput: 50, 33, 25 or less (${default})."`
	Rate        int           `default:"500" placeholder:"N" help:"Small requests a second, for latency (${default})."`
	BulkGbit    []float64     `default:"0.5,0" placeholder:"GBIT,…" help:"What the upload beside them is offered with, in Gbit/s; 0 is as fast as it goes (${default})."`
	Time        time.Duration `default:"4s" placeholder:"TIME" help:"Length of a turn of latency (${default})."`
	Pairs       int           `default:"5" placeholder:"N" help:"Rounds in which each receiver has a turn (${default})."`
	Seed        uint64        `placeholder:"N" help:"Of the order of turns; drawn if it is 0."`
	Profile     string        `type:"existingdir" placeholder:"DIR" help:"Write CPU profiles of the receivers of uploads there, the last of each."`
	Quick       bool          `help:"Cost, goodput, and latency on the same connection only, of one connection, with smaller bodies and fewer rounds: ends within 50 seconds."`
	JSON        string        `name:"json" placeholder:"FILE" help:"Write environment and rows to a file, - for standard output instead of the table."`
}

// transferMeasures has what each of --measure measures.
var transferMeasures = map[string]func(c *benchTransferCmd, base transfer.Config) []transfer.Config{
	"cost": func(c *benchTransferCmd, one transfer.Config) []transfer.Config {
		one.Flows = c.flows(1, 16, 256)
		return []transfer.Config{one}
	},
	"goodput": func(c *benchTransferCmd, one transfer.Config) []transfer.Config {
		one.Bottleneck, one.Sender, one.Pin, one.Flows, one.Bytes = transfer.BottleneckReceiver, transfer.Tailfin, true, c.flows(1, 16), 2*one.Bytes
		return []transfer.Config{one}
	},
	"latency": func(c *benchTransferCmd, one transfer.Config) (list []transfer.Config) {
		one.Kind, one.Flows, one.Rate, one.Time = transfer.Latency, c.flows(1), c.Rate, c.Time
		connections := []string{transfer.SameConnection, transfer.OtherConnection}
		if c.Quick {
			connections = connections[:1]
		}
		for _, one.BulkGbit = range c.BulkGbit {
			for _, one.Connection = range connections {
				list = append(list, one)
			}
		}
		return list
	},
	"shards": func(c *benchTransferCmd, one transfer.Config) []transfer.Config {
		one.Pin, one.Shards, one.Flows = false, c.Shards, c.flows(16, 256)
		return []transfer.Config{one}
	},
	"download": func(c *benchTransferCmd, one transfer.Config) []transfer.Config {
		one.Direction, one.Flows = transfer.Download, c.flows(1, 16)
		foreign := one
		foreign.Sender, foreign.Flows = transfer.NGTCP2, []int{1}
		return []transfer.Config{one, foreign}
	},
	"ngtcp2": func(_ *benchTransferCmd, one transfer.Config) []transfer.Config {
		one.Flows = []int{1}
		receiver := one
		one.Sender = transfer.NGTCP2
		receiver.Receivers = append(slices.Clone(one.Receivers), transfer.NGTCP2)
		return []transfer.Config{one, receiver}
	},
	"iperf3": func(c *benchTransferCmd, one transfer.Config) []transfer.Config {
		one.Sender, one.Receivers, one.Flows = transfer.IPerf3, []string{transfer.IPerf3}, c.flows(1)
		return []transfer.Config{one}
	},
}

// flows are those that were given, or some.
func (c *benchTransferCmd) flows(byDefault ...int) []int {
	if len(c.Flows) > 0 {
		return c.Flows
	}
	return byDefault
}

// Run measures, prints, and fails if a body did not arrive whole.
func (c *benchTransferCmd) Run(ctx context.Context) error {
	if c.Quick {
		c.Measure, c.Flows, c.Bytes, c.Pairs = []string{"cost", "goodput", "latency"}, c.flows(1), 48<<20, 3
		c.BulkGbit, c.Time = c.BulkGbit[:1], time.Second
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
	cert, err := devcert.New()
	if err != nil {
		return err
	}
	base := transfer.Config{Receivers: c.Receivers, Bytes: c.Bytes, Path: c.Path, Pin: c.Pin, ReceiverCPU: c.ReceiverCPU, Profile: c.Profile, Cert: cert, Plan: rounds.Plan{Rounds: c.Pairs, Seed: c.Seed}}
	var parts []transfer.Config
	for _, name := range c.Measure {
		configs := transferMeasures[name]
		if configs == nil {
			return &usageError{"--measure", name, fmt.Errorf("no such measure"), "see tailfin bench transfer --help"}
		}
		for _, conf := range configs(c, base) {
			if err := conf.Check(); err != nil {
				return &usageError{"bench transfer", "", err, "see tailfin bench transfer --help"}
			}
			parts = append(parts, conf)
		}
	}
	return reportRows(ctx, c.JSON, c.Seed, parts, func(part transfer.Config, progress func(int, int, string)) ([]transfer.Row, error) {
		part.Progress = progress
		return transfer.Run(ctx, part)
	}, transferTable)
}

// transferTable is what bench transfer prints.
func transferTable(out io.Writer, rows []transfer.Row) error {
	fmt.Fprintf(out, "CPU of the receiver's process, medians of rounds; ratios are of turns of one round, median (lowest–highest)\n")
	for len(rows) > 0 {
		title := transferTitle(rows[0])
		n := slices.IndexFunc(rows, func(r transfer.Row) bool { return transferTitle(r) != title })
		if n < 0 {
			n = len(rows)
		}
		fmt.Fprintf(out, "\n%s\n", title)
		w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
		header, cells := transferColumns(rows[0])
		fmt.Fprintf(w, "conns\tsockets\treader\tdrain\t%s\t\n", strings.Join(header, "\t"))
		for _, row := range rows[:n] {
			fmt.Fprintf(w, "%d\t%d\t%s\t%s\t", row.Flows, row.Shards, row.Reader, cmp.Or(row.Drain, "-"))
			if row.Skipped != "" {
				fmt.Fprintf(w, "skipped: %s\n", row.Skipped)
				continue
			}
			fmt.Fprintf(w, "%s\t", strings.Join(cells(row), "\t"))
			if row.Invalid != "" {
				fmt.Fprintf(w, "invalid: %s", row.Invalid)
			}
			fmt.Fprintln(w)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// transferColumns are those that say something of rows like one.
func transferColumns(like transfer.Row) (header []string, cells func(transfer.Row) []string) {
	used := func(v float64) string { return fmt.Sprintf("%.2f", v) }
	switch {
	case like.Kind == transfer.Latency:
		return []string{"p50 µs", "to stock", "p99 µs", "to stock", "Gbit/s", "receiver", "sender"}, func(r transfer.Row) []string {
			return []string{fmt.Sprintf("%.0f", r.P50), ratioText(r.P50ToStock), fmt.Sprintf("%.0f", r.P99), ratioText(r.P99ToStock), used(r.Gbit), used(r.Receiver), used(r.Sending)}
		}
	case like.Bottleneck == transfer.BottleneckReceiver:
		return []string{"Gbit/s", "to stock", "receiver", "of its share", "sender"}, func(r transfer.Row) []string {
			return []string{used(r.Gbit), ratioText(r.GoodputToStock), used(r.Receiver), used(r.Share), used(r.Sending)}
		}
	}
	return []string{"CPU s/GB", "to stock", "to drain off", "to 1 conn", "Gbit/s", "receiver", "sender", "allocs/datagram"}, func(r transfer.Row) []string {
		return []string{used(r.CPU), ratioText(r.ToStock), ratioText(r.ToOff), ratioText(r.ToOneFlow), used(r.Gbit), used(r.Receiver), used(r.Sending), orDash(r.Allocs, "%.2f")}
	}
}

// transferTitle says what rows have in common.
func transferTitle(row transfer.Row) string {
	pinned := "pinned"
	if !row.Pinned {
		pinned = "unpinned"
	}
	parts := []string{row.Kind + " " + row.Direction, "sender " + row.Sender, row.Path, pinned}
	if row.Bottleneck != transfer.BottleneckNone {
		parts = append(parts, "bottleneck "+row.Bottleneck)
	}
	if row.Kind == transfer.Latency {
		offered := "as fast as it goes"
		if row.Offered > 0 {
			offered = fmt.Sprintf("%g Gbit/s", row.Offered)
		}
		parts = append(parts, offered, fmt.Sprintf("%d small requests/s on the %s connection", row.Rate, row.Connection))
	}
	return strings.Join(parts, ", ")
}
