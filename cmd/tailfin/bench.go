package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/tailfin-quic/tailfin/bench"
	"github.com/tailfin-quic/tailfin/bench/stat"
)

// benchCmd is `tailfin bench`.
type benchCmd struct {
	Recv      benchRecvCmd      `cmd:"" help:"What it costs to receive a datagram, by reader."`
	Transfer  benchTransferCmd  `cmd:"" help:"What it costs to receive an upload, with the drain and without, beside quic-go's own server."`
	Idle      benchIdleCmd      `cmd:"" help:"What a connection costs that nobody uses, beside quic-go's own server."`
	Uploads   benchUploadsCmd   `cmd:"" help:"What it costs to receive and store small uploads, beside quic-go's own server."`
	Closerace benchCloseraceCmd `cmd:"" help:"What is lost at a close, against size, delay and slowness of the reader, beside quic-go/http3 and x/net/quic."`
	Decode    benchDecodeCmd    `cmd:"" help:"What it costs to decode HTTP/3, from memory beside others and as requests to a server beside quic-go's own."`
	Soak      benchSoakCmd      `cmd:"" help:"Run serve for an hour under a mixed load with random faults, and fail if anything is lost or grows."`
	All       benchAllCmd       `cmd:"" help:"Run all of these but soak, and write JSON, text for benchstat and an HTML report."`
	Report    benchReportCmd    `cmd:"" help:"Make a report of JSON that was written before."`
	Check     benchCheckCmd     `cmd:"" help:"Say of each target whether measured rows reach it, and fail if one does not."`

	HTML string `name:"html" placeholder:"FILE" help:"Write a page with tables and plots, which needs nothing else."`
	Text string `name:"text" placeholder:"FILE" help:"Write what benchstat reads, - for standard output instead of the table."`
}

// A benchReport is what a bench prints, as JSON.
type benchReport[R any] struct {
	Environment bench.Environment `json:"environment"`
	Seed        uint64            `json:"seed"`
	Rows        []R               `json:"rows"`
}

// A benchRun measures one part of a matrix. It may say how far it has come. It returns
// the rows it has also with an error.
type benchRun[P, R any] func(part P, progress func(done, total int, what string)) ([]R, error)

// reportRows measures the parts of a matrix, one after the other until ctx is done,
// and prints a report of all.
func reportRows[P, R any](ctx context.Context, jsonTo string, seed uint64, parts []P, run benchRun[P, R], table func(w io.Writer, rows []R) error) error {
	order := benchOrderOf(ctx)
	files, err := openBenchFiles(jsonTo, order.html, order.text)
	if err != nil {
		return err
	}
	defer files.cleanup()
	line := startProgress(order.label, len(parts))
	report := benchReport[R]{Environment: environ(), Seed: seed, Rows: []R{}}
	var failed error
	for i, part := range parts {
		rows, err := run(part, line.part(i))
		report.Rows = append(report.Rows, rows...)
		if failed = errors.Join(failed, err); ctx.Err() != nil {
			break
		}
	}
	line.close()
	text, err := json.MarshalIndent(report, "", " ")
	if err != nil {
		return errors.Join(err, failed)
	}
	if order.collect != nil {
		err = order.collect(text)
	}
	if !files.toStdout() {
		e := report.Environment
		fmt.Printf("%s, %d × %s, %s, quic-go %s, seed %d\n", e.Kernel, e.CPUs, e.CPU, e.Go, e.QUICGo, report.Seed)
		err = errors.Join(err, table(os.Stdout, report.Rows))
	}
	return errors.Join(err, files.write(text), failed)
}

// environ is the environment with the version that a release has.
func environ() bench.Environment {
	e := bench.Environ()
	if version != "devel" {
		e.Version = version
	}
	return e
}

func ratioText(r *stat.Ratio) string {
	if r == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", r.Median, r.Low, r.High)
}

func orDash(v float64, format string) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf(format, v)
}
