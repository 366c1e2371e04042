// Package qlogdir writes a qlog file for each connection
// (draft-ietf-quic-qlog-main-schema, as JSON text sequences).
package qlogdir

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlogwriter"
)

// A Dir is a folder that gets qlog files.
type Dir struct {
	path string
	most int64
	log  *slog.Logger
	made atomic.Int64
}

// Open makes the folder if it is missing. After most files no more are written.
func Open(path string, most int, log *slog.Logger) (*Dir, error) {
	if err := os.MkdirAll(path, 0o750); err != nil {
		return nil, err
	}
	probe, err := os.CreateTemp(path, ".probe-*")
	if err != nil {
		return nil, err
	}
	_ = probe.Close()
	return &Dir{path: path, most: int64(most), log: log}, os.Remove(probe.Name())
}

// Trace is for quic.Config.Tracer. It is nil for a connection without a file.
func (d *Dir) Trace(_ context.Context, isClient bool, id quic.ConnectionID) qlogwriter.Trace {
	switch n := d.made.Add(1); {
	case n == d.most+1:
		d.log.Warn("no more qlog files are written", "dir", d.path, "files", d.most, "remedy", "remove them and restart, or raise --qlog-max")
		return nil
	case n > d.most:
		return nil
	}
	side := "server"
	if isClient {
		side = "client"
	}
	// A client chooses this ID, and may choose one twice.
	f, err := os.CreateTemp(d.path, fmt.Sprintf("%s-*_%s.sqlog", id, side))
	if err != nil {
		d.log.Warn("cannot write a qlog", "dir", filepath.Clean(d.path), "err", err)
		return nil
	}
	seq := qlogwriter.NewConnectionFileSeq(&buffered{Writer: bufio.NewWriter(f), file: f}, isClient, id)
	go seq.Run()
	return seq
}

// buffered is a file that is written in larger pieces.
type buffered struct {
	*bufio.Writer
	file *os.File
}

// Close writes what is left.
func (b *buffered) Close() error { return errors.Join(b.Flush(), b.file.Close()) }
