package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/renameio/v2"

	"github.com/tailfin-quic/tailfin/bench/rounds"
	"github.com/tailfin-quic/tailfin/bench/uploads"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/receiver"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
)

// benchUploadsCmd is `tailfin bench uploads`.
type benchUploadsCmd struct {
	Receivers []string      `default:"stock,off,on" placeholder:"NAME,…" help:"Receivers to compare: stock (quic-go/http3), off and on (ours, without and with the drain) (${default})."`
	Storage   []string      `default:"discard,ndjson,dir" placeholder:"NAME,…" help:"What the handler does with a body: discard; ndjson and dir, what serve does with such a sink; renameio, a synced file and folder for each upload, as a handler with google/renameio has it; own, renameio for stock and dir for ours (${default})."`
	Dir       string        `placeholder:"DIR" help:"Folder to store in, on the file system to be measured; that for temporary files if it is not given."`
	Conns     int           `default:"64" placeholder:"N" help:"Connections (${default})."`
	InFlight  int           `default:"4" placeholder:"N" help:"Requests under way on each (${default})."`
	Size      int           `default:"1000" placeholder:"BYTES" help:"Of a body (${default})."`
	GOGC      []int         `name:"gogc" default:"100" placeholder:"PERCENT,…" help:"Goals of the receivers' garbage collector (${default})."`
	Path      string        `default:"loopback" placeholder:"NAME" help:"Network from sender to receiver, one of those that package bench/netlab has (${default})."`
	Pin       bool          `default:"true" negatable:"" help:"Pin receiver and sender to a processor each (on by default)."`
	Time      time.Duration `default:"400ms" placeholder:"TIME" help:"Length of a turn (${default})."`
	Pairs     int           `default:"40" placeholder:"N" help:"Rounds in which each receiver has a turn (${default})."`
	Seed      uint64        `placeholder:"N" help:"Of the order of runs; drawn if it is 0."`
	Profile   string        `type:"existingdir" placeholder:"DIR" help:"Write CPU profiles of the receivers there."`
	Quick     bool          `help:"Shorter turns and fewer rounds: ends within 50 seconds."`
	JSON      string        `name:"json" placeholder:"FILE" help:"Write environment and rows to a file, - for standard output instead of the table."`
}

// The storages of bench uploads.
const (
	storageDiscard = "discard"
	storageNDJSON  = "ndjson"
	storageDir     = "dir"
	storagePlain   = "renameio"
	storageOwn     = "own"
)

var storages = []string{storageDiscard, storageNDJSON, storageDir, storagePlain, storageOwn}

// newStorage is the handler of a receiver process: with dir it is that of serve. The
// storages are the same for all receivers, but for own.
func newStorage(name, storage, dir string) (http.Handler, error) {
	if storage == storageOwn {
		storage = storageDir
		if name == uploads.Stock {
			storage = storagePlain
		}
	}
	switch storage {
	case storageDiscard:
		return http.HandlerFunc(discard), nil
	case storagePlain:
		return plainFiles(dir), nil
	case storageNDJSON, storageDir:
		store, err := openStorage(storage, dir)
		if err != nil {
			return nil, err
		}
		return &receiver.Handler{Sink: store}, nil
	}
	return nil, fmt.Errorf("no storage %q; there are %s", storage, strings.Join(storages, ", "))
}

// openStorage opens the sink that serve would open.
func openStorage(storage, dir string) (sink.Sink, error) {
	if storage == storageNDJSON {
		dir = filepath.Join(dir, "uploads.ndjson")
	}
	return sink.Open(context.Background(), storage+":"+dir, sink.Options{})
}

// plainFiles stores each upload with what dir promises, by itself: a temporary file is
// written, synced and renamed, and the folder is synced.
func plainFiles(dir string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = renameio.WriteFile(filepath.Join(dir, filepath.Base(r.URL.Path)), body, 0o644, renameio.WithTempDir(dir))
		}
		if err == nil {
			err = syncFolder(dir)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusCreated)
	}
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// discard reads a body and answers as if it was stored.
func discard(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusCreated)
}

// Run measures, prints, and fails if an upload was answered and not stored.
func (c *benchUploadsCmd) Run(ctx context.Context) error {
	conf := uploads.Config{
		Receivers: c.Receivers, Path: c.Path, Dir: c.Dir, Conns: c.Conns, InFlight: c.InFlight, Size: c.Size,
		Time: c.Time, Pin: c.Pin, Profile: c.Profile, Plan: rounds.Plan{Rounds: c.Pairs, Seed: c.Seed},
	}
	if c.Quick {
		c.GOGC, conf.Time, conf.Rounds = c.GOGC[:1], 200*time.Millisecond, 10
	}
	if conf.Seed == 0 {
		conf.Seed = rand.Uint64()
	}
	var parts []uploads.Config
	for _, conf.Storage = range c.Storage {
		conf.Files = slices.Contains([]string{storageDir, storagePlain, storageOwn}, conf.Storage)
		for _, conf.GOGC = range c.GOGC {
			if err := conf.Check(); err != nil {
				return &usageError{"bench uploads", "", err, "see tailfin bench uploads --help"}
			}
			parts = append(parts, conf)
		}
		if !slices.Contains(storages, conf.Storage) {
			return &usageError{"--storage", conf.Storage, fmt.Errorf("no such storage"), "give some of " + strings.Join(storages, ", ")}
		}
	}
	return reportRows(ctx, c.JSON, conf.Seed, parts, func(part uploads.Config, progress func(int, int, string)) ([]uploads.Row, error) {
		part.Progress = progress
		return uploads.Run(ctx, part)
	}, uploadsTable)
}

// uploadsTable is what bench uploads prints.
func uploadsTable(out io.Writer, rows []uploads.Row) error {
	if len(rows) > 0 {
		fmt.Fprintf(out, "%s, %d connections with %d requests under way, bodies of %d bytes; CPU of the receiver's process, medians of turns;\nratios are of turns of one round, median (lowest–highest)\n\n",
			rows[0].Path, rows[0].Flows, rows[0].InFlight, rows[0].Size)
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "storage\tGOGC\treader\tdrain\tuploads/CPU s\tof stock\tCPU µs/upload\tCPU to stock\tuploads/s\tMbit/s\tallocs\tp50 ms\tp99 ms\t")
	for _, row := range rows {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t", row.Storage, row.GOGC, row.Reader, row.Drain)
		if why := whyNot(row.Skipped, row.Invalid); why != "" {
			fmt.Fprintln(w, why)
			continue
		}
		fmt.Fprintf(w, "%.0f\t%s\t%.1f\t%s\t%.0f\t%.0f\t%.0f\t%.2f\t%.2f\t\n", row.PerCPU, orDash(row.PerCPUToStock, "%.2f"), row.CPU, ratioText(row.ToStock),
			row.Rate, row.Goodput*1e3, row.Allocs, row.P50/1e3, row.P99/1e3)
	}
	return w.Flush()
}
