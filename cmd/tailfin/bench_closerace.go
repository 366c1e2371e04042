package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"text/tabwriter"
	"time"

	"github.com/tailfin-quic/tailfin/bench/closerace"
	"github.com/tailfin-quic/tailfin/bench/rounds"
)

// benchCloseraceCmd is `tailfin bench closerace`.
type benchCloseraceCmd struct {
	Receivers    []string        `default:"stock,xnet,off,on" placeholder:"NAME,…" help:"Receivers to compare: stock (quic-go/http3), xnet (golang.org/x/net/quic), off and on (ours, without and with the drain) (${default})."`
	Directions   []string        `default:"upload,download" placeholder:"NAME,…" help:"Who sends and closes: upload (the client) and download (the server) (${default})."`
	Senders      []string        `default:"burst" placeholder:"NAME,…" help:"What sends: burst (the close in the very packet or batch of FIN), xnet, quic-go (downloads), tailfin (uploads without delay) (${default})."`
	Sizes        []int           `default:"100,1000,9000,200000" placeholder:"BYTES,…" help:"Of each body (${default})."`
	Delays       []time.Duration `default:"0s,10us,100us,1ms" placeholder:"TIME,…" help:"Between FIN and CONNECTION_CLOSE (${default})."`
	ReaderDelays []time.Duration `default:"0s,50ms" placeholder:"TIME,…" help:"Between the header section and the first read of the body (${default})."`
	GOMAXPROCS   []int           `name:"gomaxprocs" placeholder:"N,…" help:"Of the receiver's process (the number of processors)."`
	Iterations   int             `default:"500" placeholder:"N" help:"Messages to each receiver in each cell (${default})."`
	Rounds       int             `default:"5" placeholder:"N" help:"Rounds in which each receiver gets a share of them (${default})."`
	Connections  int             `default:"4" placeholder:"N" help:"Connections at a time; where a client is slow to read, 32 (${default})."`
	Path         string          `default:"loopback" placeholder:"NAME" help:"Network to send over (${default})."`
	Seed         uint64          `placeholder:"N" help:"Of the order of turns; drawn if it is 0."`
	Quick        bool            `help:"A small matrix that ends within 50 seconds; other flags of the matrix are ignored."`
	JSON         string          `name:"json" placeholder:"FILE" help:"Write environment and rows to a file, - for standard output instead of the table."`
}

// Run measures, prints, and fails if the drain lost anything.
func (c *benchCloseraceCmd) Run(ctx context.Context) error {
	conf := closerace.Config{
		Path: c.Path, Receivers: c.Receivers, Directions: c.Directions, Senders: c.Senders, Sizes: c.Sizes,
		Delays: c.Delays, ReaderDelays: c.ReaderDelays, Procs: c.GOMAXPROCS, Iterations: c.Iterations,
		Connections: c.Connections, Plan: rounds.Plan{Rounds: c.Rounds, Seed: c.Seed},
	}
	if c.Quick {
		conf.Receivers, conf.Directions, conf.Senders = closerace.Receivers, closerace.Directions, []string{closerace.SenderBurst}
		conf.Sizes, conf.Delays = []int{100, 9000, 200_000}, []time.Duration{0, 100 * time.Microsecond}
		conf.ReaderDelays, conf.Iterations, conf.Rounds = []time.Duration{0, time.Millisecond}, 40, 2
	}
	if len(conf.Procs) == 0 {
		conf.Procs = []int{runtime.GOMAXPROCS(0)}
	}
	if conf.Seed == 0 {
		conf.Seed = rand.Uint64()
	}
	if err := conf.Check(); err != nil {
		return &usageError{"bench closerace", "", err, "see tailfin bench closerace --help"}
	}
	b, err := closerace.Open(ctx, conf)
	if err != nil {
		return err
	}
	cells := conf.Cells()
	if isTerminal(os.Stderr) {
		expected, err := b.Expected()
		if err != nil {
			return errors.Join(err, b.Close())
		}
		fmt.Fprintf(os.Stderr, "%d cells, %d receivers, %d messages to each: about %v\n", len(cells), len(conf.Receivers), conf.Iterations, expected.Round(time.Second))
	}
	turns := conf.Rounds * len(conf.Receivers)
	measured := -1
	err = reportRows(ctx, c.JSON, conf.Seed, cells, func(cell closerace.Cell, progress func(int, int, string)) ([]closerace.Row, error) {
		measured++
		ahead, show := measured*turns, progress
		if progress != nil {
			show = func(done, _ int, what string) {
				progress(ahead+done, len(cells)*turns, fmt.Sprintf("%s, %d bytes, close %v behind FIN, reader slow by %v: %s", cell.Direction, cell.Size, cell.Delay, cell.ReaderDelay, what))
			}
		}
		return b.Run(ctx, cell, show)
	}, closeraceTable)
	return errors.Join(err, b.Close())
}

// closeraceTable is what bench closerace prints.
func closeraceTable(out io.Writer, rows []closerace.Row) error {
	fmt.Fprintf(out, `Loss is of messages that QUIC had received whole before the close, with its 95 %% interval.
What did not arrive whole before the close is no receiver's loss, and stands under "not received".

`)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "direction\tsender\tbytes\tclose behind FIN\treader slow by\tprocs\treader\tdrain\tmessages\twhole\tlost\tloss\tnot received\tunsent\tsaved bytes\t")
	for _, r := range rows {
		delay, slow := time.Duration(r.Delay*1e3).String(), time.Duration(r.ReaderDelay*1e3).String()
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%d\t%s\t%s\t", r.Direction, r.Sender, r.Bytes, delay, slow, r.Procs, r.Reader, r.Drain)
		if r.Skipped != "" {
			fmt.Fprintf(w, "skipped: %s\n", r.Skipped)
			continue
		}
		fmt.Fprintf(w, "%d\t%d\t%d\t%.1f %% (%.2f–%.2f)\t%d\t%d\t%d\t%s\n", r.Requests, r.Whole, r.Lost,
			100*r.Loss, 100*r.LossLow, 100*r.LossHigh, r.NotReceived, r.Unsent, r.Saved, r.Invalid)
	}
	return w.Flush()
}
