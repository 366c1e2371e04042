package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"text/tabwriter"

	"github.com/tailfin-quic/tailfin/bench/rounds"
	"github.com/tailfin-quic/tailfin/bench/transfer"
)

// benchTransferCmd is `tailfin bench transfer`.
type benchTransferCmd struct {
	Receivers []string `default:"stock,off,on" placeholder:"NAME,…" help:"Receivers to compare: stock (quic-go/http3), off and on (ours, without and with the drain) (${default})."`
	Bytes     int64    `default:"268435456" placeholder:"BYTES" help:"Of all bodies of a run (${default})."`
	Flows     []int    `default:"1,16" placeholder:"N,…" help:"Connections, with an upload each (${default})."`
	Pin       bool     `default:"true" negatable:"" help:"Pin receiver and sender to a processor each (on by default)."`
	Pairs     int      `default:"5" placeholder:"N" help:"Rounds in which each receiver runs once (${default})."`
	Seed      uint64   `placeholder:"N" help:"Of the order of runs; drawn if it is 0."`
	Quick     bool     `help:"One connection, smaller bodies and three rounds: ends within 50 seconds."`
	JSON      string   `name:"json" placeholder:"FILE" help:"Write environment and rows to a file, - for standard output instead of the table."`
}

// Run measures, prints, and fails if a body did not arrive whole.
func (c *benchTransferCmd) Run(ctx context.Context) error {
	conf := transfer.Config{Receivers: c.Receivers, Bytes: c.Bytes, Pin: c.Pin, Plan: rounds.Plan{Rounds: c.Pairs, Seed: c.Seed}}
	if c.Quick {
		c.Flows, conf.Bytes, conf.Rounds = []int{1}, 128<<20, 3
	}
	if conf.Seed == 0 {
		conf.Seed = rand.Uint64()
	}
	for _, conf.Streams = range c.Flows {
		if err := conf.Check(); err != nil {
			return &usageError{"bench transfer", "", err, "see tailfin bench transfer --help"}
		}
	}
	return reportRows(ctx, c.JSON, conf.Seed, c.Flows, func(flows int, progress func(int, int, string)) ([]transfer.Row, error) {
		conf.Streams, conf.Progress = flows, progress
		return transfer.Run(ctx, conf)
	}, transferTable)
}

// transferTable is what bench transfer prints.
func transferTable(out io.Writer, rows []transfer.Row) error {
	fmt.Fprintf(out, "CPU of the receiver's process, medians of rounds; ratios are of runs of one round, median (lowest–highest)\n\n")
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "connections\tpinned\treader\tdrain\tCPU s/GB\tto stock\tto drain off\tGbit/s\tallocs/1200 B\t")
	for _, row := range rows {
		fmt.Fprintf(w, "%d\t%v\t%s\t%s\t", row.Flows, row.Pinned, row.Reader, row.Drain)
		if row.Skipped != "" {
			fmt.Fprintf(w, "skipped: %s\n", row.Skipped)
			continue
		}
		fmt.Fprintf(w, "%.2f\t%s\t%s\t%.2f\t%.2f\t\n", row.CPU, ratioText(row.ToStock), ratioText(row.ToOff), row.Gbit, row.Allocs)
	}
	return w.Flush()
}
