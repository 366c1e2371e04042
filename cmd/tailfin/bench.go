package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/renameio/v2"

	"github.com/tailfin-quic/tailfin/bench"
	"github.com/tailfin-quic/tailfin/bench/stat"
)

// benchCmd is `tailfin bench`.
type benchCmd struct {
	Recv     benchRecvCmd     `cmd:"" help:"What it costs to receive a datagram, by reader."`
	Transfer benchTransferCmd `cmd:"" help:"What it costs to receive an upload, with the drain and without, beside quic-go's own server."`
	Idle     benchIdleCmd     `cmd:"" help:"What a connection costs that nobody uses, beside quic-go's own server."`
	Uploads  benchUploadsCmd  `cmd:"" help:"What it costs to receive and store small uploads, beside quic-go's own server."`
}

// A benchReport is what a bench prints, as JSON.
type benchReport[R any] struct {
	Environment bench.Environment `json:"environment"`
	Seed        uint64            `json:"seed"`
	Rows        []R               `json:"rows"`
}

// A benchRun measures one part of a matrix. It may say how far it has come; progress
// is nil where nobody looks. It returns the rows it has also with an error.
type benchRun[P, R any] func(part P, progress func(done, total int, what string)) ([]R, error)

// reportRows measures the parts of a matrix, one after the other until ctx is done,
// and prints a report of all.
func reportRows[P, R any](ctx context.Context, jsonTo string, seed uint64, parts []P, run benchRun[P, R], table func(w io.Writer, rows []R) error) error {
	file, err := openJSON(jsonTo)
	if err != nil {
		return err
	}
	if file != nil {
		defer func() { _ = file.Cleanup() }()
	}
	show, clearLine := progress()
	report := benchReport[R]{Environment: bench.Environ(), Seed: seed}
	var failed error
	for _, part := range parts {
		rows, err := run(part, show)
		report.Rows = append(report.Rows, rows...)
		if failed = errors.Join(failed, err); ctx.Err() != nil {
			break
		}
	}
	clearLine()
	return errors.Join(report.write(jsonTo, file, table), failed)
}

// write prints the report by table, or with "-" for jsonTo as JSON, and writes the
// JSON to a file if there is one.
func (r *benchReport[R]) write(jsonTo string, file *renameio.PendingFile, table func(io.Writer, []R) error) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if jsonTo == "-" {
		_, err := os.Stdout.Write(text)
		return err
	}
	e := r.Environment
	fmt.Printf("%s, %d × %s, %s, quic-go %s, seed %d\n", e.Kernel, e.CPUs, e.CPU, e.Go, e.QUICGo, r.Seed)
	if err := table(os.Stdout, r.Rows); err != nil || file == nil {
		return err
	}
	if _, err := file.Write(text); err != nil {
		return fmt.Errorf("write the JSON: %w", err)
	}
	return file.CloseAtomicallyReplace()
}

// openJSON opens the file for the JSON, if there is to be one: before anything is
// measured, since a long run must not end in a folder that is not there.
func openJSON(path string) (*renameio.PendingFile, error) {
	if path == "" || path == "-" {
		return nil, nil
	}
	file, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o644))
	if err != nil {
		return nil, &usageError{"--json", path, err, "give a file in a folder that can be written"}
	}
	return file, nil
}

// progress tells a terminal what is measured, and returns how to clear the line.
func progress() (show func(done, total int, what string), done func()) {
	if !isTerminal(os.Stderr) {
		return nil, func() {}
	}
	return func(done, total int, what string) {
		fmt.Fprintf(os.Stderr, "\r\033[K%d of %d: %s", done, total, what)
	}, func() { fmt.Fprint(os.Stderr, "\r\033[K") }
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
