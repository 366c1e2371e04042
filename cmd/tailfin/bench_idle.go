package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"text/tabwriter"
	"time"

	"github.com/tailfin-quic/tailfin/bench/idle"
	"github.com/tailfin-quic/tailfin/bench/rounds"
)

// benchIdleCmd is `tailfin bench idle`.
type benchIdleCmd struct {
	Receivers []string        `default:"stock,off,on" placeholder:"NAME,…" help:"Receivers to compare: stock (quic-go/http3), off and on (ours, without and with the drain) (${default})."`
	Conns     int             `default:"10000" placeholder:"N" help:"Connections that idle (${default})."`
	KeepAlive []time.Duration `default:"0s,5s" placeholder:"TIME,…" help:"Between PINGs of the client on each, 0s for none (${default})."`
	Time      time.Duration   `default:"10s" placeholder:"TIME" help:"For which the processor time of idling is measured (${default})."`
	Path      string          `default:"loopback" placeholder:"NAME" help:"Network between receiver and sender (${default})."`
	Pin       bool            `default:"true" negatable:"" help:"Pin receiver and sender to a processor each (on by default)."`
	Pairs     int             `default:"3" placeholder:"N" help:"Rounds in which each receiver has a turn (${default})."`
	Seed      uint64          `placeholder:"N" help:"Of the order of turns; drawn if it is 0."`
	Profile   string          `type:"existingdir" placeholder:"DIR" help:"Write profiles of the receivers' heaps there."`
	Quick     bool            `help:"1,000 connections, no PINGs, a second of idling and two rounds: ends within 50 seconds."`
	JSON      string          `name:"json" placeholder:"FILE" help:"Write environment and rows to a file, - for standard output instead of the table."`
}

// Run measures, prints, and fails if a connection did not live.
func (c *benchIdleCmd) Run(ctx context.Context) error {
	conf := idle.Config{
		Receivers: c.Receivers, Conns: c.Conns, Time: c.Time, Path: c.Path, Pin: c.Pin, Profile: c.Profile,
		Plan: rounds.Plan{Rounds: c.Pairs, Seed: c.Seed},
	}
	if c.Quick {
		c.KeepAlive, conf.Conns, conf.Time, conf.Rounds = c.KeepAlive[:1], 1000, time.Second, 2
	}
	if conf.Seed == 0 {
		conf.Seed = rand.Uint64()
	}
	for _, conf.KeepAlive = range c.KeepAlive {
		if err := conf.Check(); err != nil {
			return &usageError{"bench idle", "", err, "see tailfin bench idle --help"}
		}
	}
	return reportRows(ctx, c.JSON, conf.Seed, c.KeepAlive, func(keepAlive time.Duration, progress func(int, int, string)) ([]idle.Row, error) {
		conf.KeepAlive, conf.Progress = keepAlive, progress
		return idle.Run(ctx, conf)
	}, idleTable)
}

// idleTable is what bench idle prints.
func idleTable(out io.Writer, rows []idle.Row) error {
	fmt.Fprintf(out, "By idle connection: memory and CPU of the receiver's process, medians of rounds; ratios are of turns of one round, median (lowest–highest)\n\n")
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "connections\tPING every s\treader\tdrain\tbytes\tto stock\theap\tstacks\tRSS\tto stock\tgoroutines\tCPU µs/s\tto stock\t")
	for _, row := range rows {
		fmt.Fprintf(w, "%d\t%g\t%s\t%s\t", row.Conns, row.KeepAlive, row.Reader, row.Drain)
		if row.Skipped != "" {
			fmt.Fprintf(w, "skipped: %s\n", row.Skipped)
			continue
		}
		fmt.Fprintf(w, "%.0f\t%s\t%.0f\t%.0f\t%.0f\t%s\t%.2f\t%.2f\t%s\t\n", row.Bytes, ratioText(row.ToStock), row.Heap, row.Stacks,
			row.RSS, ratioText(row.RSSToStock), row.Goroutines, row.CPU, ratioText(row.CPUToStock))
	}
	return w.Flush()
}
