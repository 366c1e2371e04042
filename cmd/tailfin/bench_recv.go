package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/tailfin-quic/tailfin/bench/recv"
	"github.com/tailfin-quic/tailfin/bench/rounds"
)

// benchRecvCmd is `tailfin bench recv`.
type benchRecvCmd struct {
	Readers  []string      `default:"stock,mmsg-gro,uring-gro,auto,paced,c,c-mmsg,iperf3" placeholder:"NAME,…" help:"Readers to compare: ${readers} (${default})."`
	Path     []string      `default:"loopback" placeholder:"NAME,…" help:"Networks to send over: ${paths} (${default})."`
	Segments []int         `default:"1,4,16,44" placeholder:"N,…" help:"Datagrams that the sender hands to the kernel at once, by GSO; 1 is without (${default})."`
	Payload  []int         `default:"1200,64,1452" placeholder:"BYTES,…" help:"Bytes of a datagram (${default})."`
	Flows    []int         `default:"1,16,256" placeholder:"N,…" help:"Source ports (${default})."`
	Rate     []int         `default:"100000,0" placeholder:"N,…" help:"Datagrams a second, 0 for as many as the sender can (${default})."`
	Lone     bool          `default:"true" negatable:"" help:"Also measure datagrams that come one by one, 1000 and 20000 a second, for the latency: one segment, one flow, the first of --payload."`
	Pin      string        `default:"on" enum:"on,off,both" help:"Pin receiver and sender to a processor each: on, off or both (${default})."`
	Pairs    int           `default:"5" placeholder:"N" help:"Rounds in which each reader runs once (${default})."`
	Warmup   time.Duration `default:"50ms" placeholder:"TIME" help:"Of each run, not measured (${default})."`
	Duration time.Duration `default:"300ms" placeholder:"TIME" help:"Of each run, measured; longer where a rate makes less than 3000 datagrams in it (${default})."`
	Buffer   int           `default:"8388608" placeholder:"BYTES" help:"Receive buffer to ask for (${default})."`
	Seed     uint64        `placeholder:"N" help:"Of the order of runs; drawn if it is 0."`
	Quick    bool          `help:"A small matrix that ends within 50 seconds a path; other flags of the matrix are ignored."`
	JSON     string        `name:"json" placeholder:"FILE" help:"Write environment and rows to a file, - for standard output instead of the table."`
}

// Run measures, prints, and fails if a row's accounts do not add up.
func (c *benchRecvCmd) Run(ctx context.Context) error {
	if c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
	var parts []recv.Config
	for _, path := range c.Path {
		for _, part := range c.matrix() {
			part.Path = path
			if err := part.Check(); err != nil {
				return &usageError{"bench recv", "", err, "see tailfin bench recv --help"}
			}
			parts = append(parts, part)
		}
	}
	total, before := 0, 0
	for _, part := range parts {
		total += part.Turns()
	}
	if isTerminal(os.Stderr) {
		fmt.Fprintln(os.Stderr, recvPlan(parts))
	}
	return reportRows(ctx, c.JSON, c.Seed, parts, func(part recv.Config, progress func(int, int, string)) ([]recv.Row, error) {
		done := before
		before += part.Turns()
		if progress != nil {
			part.Progress = func(turn, _ int, what string) { progress(done+turn, total, what) }
		}
		return recv.Run(ctx, part)
	}, recvTable)
}

// matrix is what is measured on each path.
func (c *benchRecvCmd) matrix() []recv.Config {
	all := recv.Config{
		Readers: c.Readers, Segments: c.Segments, Payload: c.Payload, Flows: c.Flows, Rates: c.Rate, Pin: []bool{c.Pin == "on"},
		Warmup: c.Warmup, Duration: c.Duration, Buffer: c.Buffer, Plan: rounds.Plan{Rounds: c.Pairs, Seed: c.Seed},
	}
	if c.Pin == "both" {
		all.Pin = []bool{true, false}
	}
	if !c.Quick {
		parts := []recv.Config{all}
		if lone := loneCells(all); c.Lone && len(lone.Rates) > 0 {
			parts = append(parts, lone)
		}
		return parts
	}
	all.Readers, all.Payload, all.Flows = []string{"stock", "mmsg-gro", "uring-gro", "auto", "c", "c-mmsg"}, []int{1200}, []int{1}
	all.Rounds, all.Warmup, all.Duration = 3, 40*time.Millisecond, 100*time.Millisecond
	trains, single, lone, foreign := all, all, all, all
	trains.Segments, trains.Rates = []int{16, 44}, []int{0}
	single.Segments, single.Rates = []int{1}, []int{20_000, 100_000, 0}
	single.Readers = []string{"stock", "mmsg-gro", "auto", "c", "c-mmsg"}
	lone.Segments, lone.Rates, lone.Readers = []int{1}, []int{1000}, []string{"stock", "auto"}
	lone.Rounds = 2
	foreign.Segments, foreign.Rates, foreign.Readers = []int{1}, []int{0}, []string{"iperf3"}
	return []recv.Config{trains, single, lone, foreign}
}

// loneCells are those of --lone which a matrix has not.
func loneCells(all recv.Config) recv.Config {
	lone := all
	lone.Segments, lone.Payload, lone.Flows, lone.Rates = []int{1}, all.Payload[:min(1, len(all.Payload))], []int{1}, nil
	for _, rate := range []int{1000, 20_000} {
		if !slices.ContainsFunc(all.Cells(), func(cell recv.Cell) bool {
			return cell.Segments == 1 && cell.Payload == all.Payload[0] && cell.Flows == 1 && cell.Rate == rate
		}) {
			lone.Rates = append(lone.Rates, rate)
		}
	}
	return lone
}

// recvPlan says how much there is to measure, and about how long that takes.
func recvPlan(parts []recv.Config) string {
	var cells, turns int
	var paths []string
	var t time.Duration
	for _, part := range parts {
		cells += len(part.Cells())
		turns += part.Turns()
		t += part.Estimate()
		if !slices.Contains(paths, part.Path) {
			paths = append(paths, part.Path)
		}
	}
	about := t.Round(time.Second).String()
	if t > 2*time.Minute {
		about = fmt.Sprintf("%.0f min", t.Minutes())
	}
	return fmt.Sprintf("%d cells on %v, %d runs: about %s", cells, paths, turns, about)
}

// recvTable is what bench recv prints.
func recvTable(out io.Writer, rows []recv.Row) error {
	fmt.Fprintf(out, "CPU of the receiver's process a datagram, medians of rounds; ratios are of runs of one round, median (lowest–highest)\n\n")
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "path\tsegments\tbytes\tflows\trate\tpinned\treader\tns/datagram\tto stock\tto mmsg-gro\tto c\tto c-mmsg\treceived/s\tCPU\tsender\ttrain\tcalls\tallocs\tp50 µs\tp99 µs\tlost\taccounts\t")
	for _, row := range rows {
		rate := "max"
		if row.Rate > 0 {
			rate = fmt.Sprint(row.Rate)
		}
		if row.Segments == 0 { // there is no such path, and so no cell
			fmt.Fprintf(w, "%s\t\t\t\t\t\t%s\tskipped: %s\n", row.Path, row.Reader, row.Skipped)
			continue
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\t%v\t%s\t", row.Path, row.Segments, row.Payload, row.Flows, rate, row.Pinned, row.Reader)
		if row.Skipped != "" {
			fmt.Fprintf(w, "skipped: %s\n", row.Skipped)
			continue
		}
		fmt.Fprintf(w, "%.0f\t%s\t%s\t%s\t%s\t%.0f\t%.2f\t%.2f\t%.1f\t%s\t%.3f\t%s\t%s\t%d\t%s\t%s\n",
			row.CPU, ratioText(row.ToStock), ratioText(row.ToMmsgGRO), ratioText(row.ToC), ratioText(row.ToCMmsg),
			row.ReceivedPPS, row.Utilization, row.SenderUtilization, row.Train, orDash(row.Syscalls, "%.2f"), row.Allocs,
			orDash(row.P50, "%.0f"), orDash(row.P99, "%.0f"), row.Lost, row.Accounting, row.Invalid)
	}
	return w.Flush()
}
