package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/renameio/v2"

	"github.com/tailfin-quic/tailfin/bench/check"
	"github.com/tailfin-quic/tailfin/bench/report"
)

// A benchOrder is what is wanted of a scenario's rows beside what its own flags say.
type benchOrder struct {
	html, text string                      // files
	label      string                      // in front of the progress
	collect    func(document []byte) error // takes the JSON
}

type benchOrderKey struct{}

// order hands what the flags of `tailfin bench` say to the command under it.
func (c *benchCmd) order(ctx context.Context) context.Context {
	return context.WithValue(ctx, benchOrderKey{}, benchOrder{html: c.HTML, text: c.Text})
}

func benchOrderOf(ctx context.Context) benchOrder {
	order, _ := ctx.Value(benchOrderKey{}).(benchOrder)
	return order
}

// benchFiles are those that a report goes to; each nil if it is not wanted.
type benchFiles struct {
	list   []*benchFile
	stdout int // how many of them are standard output
}

type benchFile struct {
	name   string
	file   pendingFile // nil for standard output
	format func(w io.Writer, text []byte, d *report.Document) error
}

// A pendingFile is there once it was written whole.
type pendingFile interface {
	io.Writer
	CloseAtomicallyReplace() error
	Cleanup() error
}

// openPending opens a file that replaces what has its name once it is whole. What is no
// regular file, as /dev/null, is written into: it must not be replaced.
func openPending(path string) (pendingFile, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		return device{f}, err
	}
	return renameio.NewPendingFile(path, renameio.WithPermissions(0o644))
}

// A device takes what is written at once.
type device struct{ *os.File }

func (d device) CloseAtomicallyReplace() error { return d.Close() }
func (d device) Cleanup() error                { return d.Close() }

// openBenchFiles opens the files for a report, those that have a name. It is called
// before anything is measured, since a long run must not end in a folder that is not
// there.
func openBenchFiles(jsonTo, htmlTo, textTo string) (*benchFiles, error) {
	files := &benchFiles{}
	for _, f := range []struct {
		flag, path string
		format     func(w io.Writer, text []byte, d *report.Document) error
	}{
		{"--json", jsonTo, writeJSON}, {"--html", htmlTo, writeHTML}, {"--text", textTo, writeText},
	} {
		if f.path == "" {
			continue
		}
		to := &benchFile{name: f.path, format: f.format}
		if f.path == "-" {
			files.stdout++
		} else {
			var err error
			if to.file, err = openPending(f.path); err != nil {
				files.cleanup()
				return nil, &usageError{f.flag, f.path, err, "give a file in a folder that can be written"}
			}
		}
		files.list = append(files.list, to)
	}
	if files.stdout > 1 {
		files.cleanup()
		return nil, &usageError{"-", "", errors.New("two reports cannot both go to standard output"), "give a file to one of --json, --html and --text"}
	}
	return files, nil
}

// toStdout tells that standard output is not for tables.
func (f *benchFiles) toStdout() bool { return f.stdout > 0 }

// write makes all reports of a document's JSON.
func (f *benchFiles) write(text []byte) error {
	d, err := report.Parse(text)
	if err != nil {
		return fmt.Errorf("read what was measured: %w", err)
	}
	var errs []error
	for _, to := range f.list {
		if to.file == nil {
			errs = append(errs, to.format(os.Stdout, text, d))
			continue
		}
		if err := to.format(to.file, text, d); err != nil {
			errs = append(errs, fmt.Errorf("write %s: %w", to.name, err))
			continue
		}
		errs = append(errs, to.file.CloseAtomicallyReplace())
	}
	return errors.Join(errs...)
}

// cleanup removes what was not written.
func (f *benchFiles) cleanup() {
	for _, to := range f.list {
		if to.file != nil {
			_ = to.file.Cleanup()
		}
	}
}

func writeJSON(w io.Writer, text []byte, _ *report.Document) error {
	_, err := w.Write(append(text, '\n'))
	return err
}

func writeHTML(w io.Writer, _ []byte, d *report.Document) error {
	return report.HTML(w, d, check.OfScenarios(d))
}

func writeText(w io.Writer, _ []byte, d *report.Document) error { return report.Text(w, d) }
