package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/tailfin-quic/tailfin/bench/decode"
	"github.com/tailfin-quic/tailfin/bench/rounds"
	"github.com/tailfin-quic/tailfin/bench/uploads"
)

// benchDecodeCmd is `tailfin bench decode`.
type benchDecodeCmd struct {
	Transcripts  []string      `name:"transcript" default:"headers,data-1200,data-8k,small,mixed,request-fields,response-fields" placeholder:"NAME,…" help:"What is decoded from memory (${default})."`
	Time         time.Duration `default:"100ms" placeholder:"TIME" help:"Length of a turn of decoding (${default})."`
	Methods      []string      `name:"method" default:"GET,POST" placeholder:"NAME,…" help:"Requests to a server (${default})."`
	Flows        []int         `default:"1,16,64" placeholder:"N,…" help:"Their connections (${default})."`
	InFlight     int           `default:"4" placeholder:"N" help:"Requests under way on each (${default})."`
	Size         int           `default:"16" placeholder:"BYTES" help:"Of the body of a POST or PUT (${default})."`
	Answer       int           `default:"8" placeholder:"BYTES" help:"Of each answer (${default})."`
	RequestsTime time.Duration `default:"400ms" placeholder:"TIME" help:"Length of a turn of requests (${default})."`
	Path         string        `default:"loopback" placeholder:"NAME" help:"Network for the requests, one of those that package bench/netlab has (${default})."`
	Pin          bool          `default:"true" negatable:"" help:"Pin what is measured, and the sender of requests, to a processor each (on by default)."`
	Pairs        int           `default:"15" placeholder:"N" help:"Rounds in which each contestant has a turn (${default})."`
	Seed         uint64        `placeholder:"N" help:"Of the transcripts and the order of turns; drawn if it is 0."`
	Profile      string        `type:"existingdir" placeholder:"DIR" help:"Write CPU profiles of the servers there."`
	Quick        bool          `help:"Shorter turns, fewer rounds, and 1 and 64 connections: ends within 50 seconds."`
	JSON         string        `name:"json" placeholder:"FILE" help:"Write environment and rows to a file, - for standard output instead of the table."`
}

// A decodePart measures a part of the matrix: its rows are decode.Row or
// uploads.RequestRow.
type decodePart func(progress func(done, total int, what string)) ([]any, error)

// Run measures, prints, and fails if something was decoded or answered wrongly.
func (c *benchDecodeCmd) Run(ctx context.Context) error {
	if c.Quick {
		c.Time, c.RequestsTime, c.Pairs, c.Flows = 20*time.Millisecond, 150*time.Millisecond, 5, []int{1, 64}
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
	decodes, err := c.decodes(ctx)
	if err != nil {
		return err
	}
	requests, err := c.requests(ctx)
	if err != nil {
		return err
	}
	return reportRows(ctx, c.JSON, c.Seed, append(decodes, requests...), func(part decodePart, progress func(int, int, string)) ([]any, error) {
		return part(progress)
	}, decodeTables)
}

// decodes are a part for each transcript.
func (c *benchDecodeCmd) decodes(ctx context.Context) (parts []decodePart, err error) {
	for _, name := range c.Transcripts {
		conf := decode.Config{Transcript: name, Time: c.Time, Pin: c.Pin, Plan: rounds.Plan{Rounds: c.Pairs, Seed: c.Seed}}
		if err := conf.Check(); err != nil {
			return nil, &usageError{"bench decode", "", err, "see tailfin bench decode --help"}
		}
		parts = append(parts, func(progress func(int, int, string)) ([]any, error) {
			conf.Progress = progress
			rows, err := decode.Run(ctx, conf)
			return anyOf(rows), err
		})
	}
	return parts, nil
}

// requests are a part for each method and number of connections.
func (c *benchDecodeCmd) requests(ctx context.Context) (parts []decodePart, err error) {
	for _, method := range c.Methods {
		size := c.Size
		if method == http.MethodGet {
			size = 0
		}
		for _, flows := range c.Flows {
			conf := uploads.Config{
				Receivers: uploads.Receivers, Path: c.Path, Method: method, Conns: flows, InFlight: c.InFlight, Size: size, Answer: c.Answer,
				Time: c.RequestsTime, Pin: c.Pin, Profile: c.Profile, Plan: rounds.Plan{Rounds: c.Pairs, Seed: c.Seed},
			}
			if err := conf.Check(); err != nil {
				return nil, &usageError{"bench decode", "", err, "see tailfin bench decode --help"}
			}
			parts = append(parts, func(progress func(int, int, string)) ([]any, error) {
				conf.Progress = progress
				rows, err := uploads.Requests(ctx, conf)
				return anyOf(rows), err
			})
		}
	}
	return parts, nil
}

func anyOf[R any](rows []R) []any {
	list := make([]any, 0, len(rows))
	for _, row := range rows {
		list = append(list, row)
	}
	return list
}

// decodeTables is what bench decode prints: a table of each scenario.
func decodeTables(out io.Writer, rows []any) error {
	var decodes []decode.Row
	var requests []uploads.RequestRow
	for _, row := range rows {
		switch row := row.(type) {
		case decode.Row:
			decodes = append(decodes, row)
		case uploads.RequestRow:
			requests = append(requests, row)
		}
	}
	if len(decodes) > 0 {
		if err := decodeTable(out, decodes); err != nil {
			return err
		}
		fmt.Fprintln(out)
	}
	if len(requests) > 0 {
		return requestsTable(out, requests)
	}
	return nil
}

func decodeTable(out io.Writer, rows []decode.Row) error {
	fmt.Fprintf(out, "decoding from memory; processor time a frame or field section, medians of turns; ratios are of turns of one round,\nmedian (lowest–highest), below 1 is better; Gbit/s is what comes out, by reference or not\n\n")
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "transcript\treader\tns/frame\tto varint\tto http2\tto qpack\tto hpack\tGbit/s\tallocs/frame\t")
	for _, row := range rows {
		fmt.Fprintf(w, "%s\t%s\t", row.Transcript, row.Reader)
		if why := whyNot(row.Skipped, row.Invalid); why != "" {
			fmt.Fprintln(w, why)
			continue
		}
		fmt.Fprintf(w, "%.1f\t%s\t%s\t%s\t%s\t%.1f\t%.3f\t\n", row.NS, ratioText(row.ToVarint), ratioText(row.ToHTTP2), ratioText(row.ToQPACK), ratioText(row.ToHPACK), row.Gbit, row.Allocs)
	}
	return w.Flush()
}

func requestsTable(out io.Writer, rows []uploads.RequestRow) error {
	fmt.Fprintf(out, "requests to a server over %s, %d under way on each connection, answers of %d bytes; CPU of the server's process, medians of turns\n\n",
		rows[0].Path, rows[0].InFlight, rows[0].Answer)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "method\tbody\tconnections\tserver\tdrain\trequests/CPU s\tof stock\tCPU µs\tCPU to stock\trequests/s\tallocs\tp50 ms\tp99 ms\t")
	for _, row := range rows {
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t", row.Method, row.Size, row.Flows, row.Reader, row.Drain)
		if why := whyNot(row.Skipped, row.Invalid); why != "" {
			fmt.Fprintln(w, why)
			continue
		}
		fmt.Fprintf(w, "%.0f\t%s\t%.1f\t%s\t%.0f\t%.0f\t%.2f\t%.2f\t\n", row.PerCPU, orDash(row.PerCPUToStock, "%.2f"), row.CPU, ratioText(row.ToStock),
			row.Rate, row.Allocs, row.P50/1e3, row.P99/1e3)
	}
	return w.Flush()
}

// whyNot says why a row has no figures; empty if it has.
func whyNot(skipped, invalid string) string {
	switch {
	case invalid != "":
		return "invalid: " + invalid
	case skipped != "":
		return "skipped: " + skipped
	}
	return ""
}
