package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"text/tabwriter"
	"time"

	"github.com/tailfin-quic/tailfin/bench/recv"
)

// benchRecvCmd is `tailfin bench recv`.
type benchRecvCmd struct {
	Readers  []string      `default:"stock,mmsg-gro,uring-gro,auto,paced,c" placeholder:"NAME,…" help:"Readers to compare: ${readers} (${default})."`
	Segments []int         `default:"1,4,16,44" placeholder:"N,…" help:"Datagrams that the sender hands to the kernel at once, by GSO (${default})."`
	Payload  []int         `default:"1252" placeholder:"BYTES,…" help:"Bytes of a datagram (${default})."`
	Flows    []int         `default:"1" placeholder:"N,…" help:"Source ports (${default})."`
	Rate     []int         `default:"20000,100000,0" placeholder:"N,…" help:"Datagrams a second, 0 for as many as the sender can (${default})."`
	Pin      string        `default:"on" enum:"on,off,both" help:"Pin receiver and sender to a processor each: on, off or both (${default})."`
	Pairs    int           `default:"5" placeholder:"N" help:"Rounds in which each reader runs once (${default})."`
	Warmup   time.Duration `default:"100ms" placeholder:"TIME" help:"Of each run, not measured (${default})."`
	Duration time.Duration `default:"1s" placeholder:"TIME" help:"Of each run, measured (${default})."`
	Buffer   int           `default:"8388608" placeholder:"BYTES" help:"Receive buffer to ask for (${default})."`
	Seed     uint64        `placeholder:"N" help:"Of the order of runs; drawn if it is 0."`
	Quick    bool          `help:"A small matrix that ends within 50 seconds; other flags of the matrix are ignored."`
	JSON     string        `name:"json" placeholder:"FILE" help:"Write environment and rows to a file, - for standard output instead of the table."`
}

// Run measures, prints, and fails if a row's accounts do not add up.
func (c *benchRecvCmd) Run(ctx context.Context) error {
	conf := recv.Config{
		Readers: c.Readers, Segments: c.Segments, Payload: c.Payload, Flows: c.Flows, Rates: c.Rate,
		Pairs: c.Pairs, Warmup: c.Warmup, Duration: c.Duration, Buffer: c.Buffer, Seed: c.Seed,
	}
	switch c.Pin {
	case "both":
		conf.Pin = []bool{true, false}
	default:
		conf.Pin = []bool{c.Pin == "on"}
	}
	if conf.Seed == 0 {
		conf.Seed = rand.Uint64()
	}
	var cells [][2][]int
	if c.Quick {
		conf.Readers, conf.Payload, conf.Flows = []string{"stock", "mmsg-gro", "uring-gro", "auto", "c"}, []int{1252}, []int{1}
		conf.Pairs, conf.Warmup, conf.Duration = 3, 80*time.Millisecond, 150*time.Millisecond
		cells = [][2][]int{{{16, 44}, {0}}, {{1}, {20_000, 100_000, 0}}}
	} else {
		cells = [][2][]int{{c.Segments, c.Rate}}
	}
	if err := conf.Check(); err != nil {
		return &usageError{"bench recv", "", err, "see tailfin bench recv --help"}
	}
	return reportRows(ctx, c.JSON, conf.Seed, cells, func(cell [2][]int, progress func(int, int, string)) ([]recv.Row, error) {
		conf.Segments, conf.Rates, conf.Progress = cell[0], cell[1], progress
		return recv.Run(ctx, conf)
	}, recvTable)
}

// recvTable is what bench recv prints.
func recvTable(out io.Writer, rows []recv.Row) error {
	fmt.Fprintf(out, "CPU of the receiver's process a datagram, medians of rounds; ratios are of runs of one round, median (lowest–highest)\n\n")
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "segments\tflows\trate\tpinned\treader\tns/datagram\tto stock\tto mmsg-gro\tto c\treceived/s\ttrain\tcalls\tallocs\tp50 µs\tp99 µs\tlost\taccounts\t")
	for _, row := range rows {
		rate := "max"
		if row.Rate > 0 {
			rate = fmt.Sprint(row.Rate)
		}
		fmt.Fprintf(w, "%d\t%d\t%s\t%v\t%s\t", row.Segments, row.Flows, rate, row.Pinned, row.Reader)
		if row.Skipped != "" {
			fmt.Fprintf(w, "skipped: %s\n", row.Skipped)
			continue
		}
		fmt.Fprintf(w, "%.0f\t%s\t%s\t%s\t%.0f\t%.1f\t%s\t%.3f\t%s\t%s\t%d\t%s\t%s\n",
			row.CPU, ratioText(row.ToStock), ratioText(row.ToMmsgGRO), ratioText(row.ToC),
			row.Gbit*1e9/8/float64(row.Payload), row.Train, orDash(row.Syscalls, "%.2f"), row.Allocs,
			orDash(row.P50, "%.0f"), orDash(row.P99, "%.0f"), row.Lost, row.Accounting, row.Invalid)
	}
	return w.Flush()
}
