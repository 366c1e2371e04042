package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tailfin-quic/tailfin/bench/soak"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/devcert"
)

// benchSoakCmd is `tailfin bench soak`.
type benchSoakCmd struct {
	Minutes   float64       `default:"60" placeholder:"N" help:"How long the load lasts, 0.5 is half a minute (${default}). After it all that the load has left must be gone within another. Only after some minutes growth is told from chance."`
	Every     time.Duration `default:"5s" placeholder:"TIME" help:"Between samples (${default})."`
	Faults    time.Duration `name:"fault-every" default:"20s" placeholder:"TIME" help:"Between random faults, on average; 0s for none (${default})."`
	Takeovers int           `default:"3" placeholder:"N" help:"How often a new process takes over, in the first half of the time (${default})."`
	Clients   float64       `default:"1" placeholder:"N" help:"Times the usual number of clients, of which there are some 70 (${default})."`
	Path      string        `default:"auto" enum:"auto,wire,loopback" placeholder:"NAME" help:"Network between clients and server: wire, which can lose, reorder and forget and needs root, loopback, or auto for the first that is to be had (${default})."`
	Backend   string        `default:"auto" placeholder:"NAME" help:"How serve reads datagrams (${default})."`
	Dir       string        `type:"existingdir" placeholder:"DIR" help:"Where a folder is made for what is stored, and removed; that for temporary files if empty."`
	Seed      uint64        `placeholder:"N" help:"Of faults and load; drawn if it is 0."`
	JSON      string        `name:"json" placeholder:"FILE" help:"Write environment and the row with its samples to a file, - for standard output instead of the table."`
}

// Run soaks, prints, and fails if anything was lost, or corrupt, has crashed, or grows.
func (c *benchSoakCmd) Run(ctx context.Context) error {
	conf := soak.Config{
		Time: time.Duration(c.Minutes * float64(time.Minute)), Every: c.Every, Gap: c.Faults, Takeovers: c.Takeovers, Clients: c.Clients,
		Path: c.Path, Backend: c.Backend, Dir: c.Dir, Seed: c.Seed, Plan: printPlan,
	}
	for conf.Seed == 0 {
		conf.Seed = rand.Uint64()
	}
	if err := conf.Check(); err != nil {
		return &usageError{"bench soak", "", err, "see tailfin bench soak --help"}
	}
	newCert := func() (tls.Certificate, error) { return devcert.New() }
	return reportRows(ctx, c.JSON, conf.Seed, []soak.Config{conf}, func(conf soak.Config, progress func(int, int, string)) ([]soak.Row, error) {
		conf.Progress = progress
		return soak.Run(ctx, conf, newCert)
	}, soakTable)
}

// printPlan says on standard error what is going to happen.
func printPlan(path string, why error, schedule []soak.Event) {
	fmt.Fprintf(os.Stderr, "path %s", path)
	if why != nil {
		fmt.Fprintf(os.Stderr, ", without faults of the network: %v", why)
	}
	fmt.Fprintf(os.Stderr, "\n%d faults and take-overs: %s\n", len(schedule), cmp.Or(soak.Summary(schedule), "none"))
	const columns = 116
	var line string
	for _, e := range schedule {
		text := e.String()
		if line != "" && len(line)+len(text) > columns {
			fmt.Fprintln(os.Stderr, line)
			line = ""
		}
		if line != "" {
			line += " · "
		}
		line += text
	}
	if line != "" {
		fmt.Fprintln(os.Stderr, line)
	}
}

// soakTable is what bench soak prints.
func soakTable(out io.Writer, rows []soak.Row) error {
	var errs []error
	for i := range rows {
		r := &rows[i]
		fmt.Fprintf(out, "Soak of %g minutes over %s by %s, with %d faults and %d take-overs: %s\n\n", r.Minutes, r.Path, r.Reader, r.Faults, r.Takeovers, r.Result)
		fmt.Fprintf(out, "%d requests as they must be, %.1f GB of bodies; %d lost, %d corrupt, %d crashed, %d files left; in faults of the network %d failed and %d unsure\n",
			r.Requests, float64(r.Bytes)/1e9, r.Lost, r.Corrupt, r.Crashed, r.Leaked, r.Failed, r.Unsure)
		if len(r.Failures) > 0 {
			var list []string
			for _, class := range slices.Sorted(maps.Keys(r.Failures)) {
				list = append(list, fmt.Sprintf("%d %s", r.Failures[class], class))
			}
			fmt.Fprintf(out, "those that failed: %s\n", strings.Join(list, ", "))
		}
		errs = append(errs, soakKinds(out, r), soakLevels(out, r), soakBase(out, r))
		for _, text := range r.Troubles {
			fmt.Fprintln(out, text)
		}
	}
	return errors.Join(errs...)
}

func soakKinds(out io.Writer, r *soak.Row) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "\nclients\tdone\tMB\tgiven up\tagain\tfailed\tunsure\tlost\tcorrupt\t")
	for _, kind := range slices.Sorted(maps.Keys(r.Kinds)) {
		t := r.Kinds[kind]
		fmt.Fprintf(w, "%s\t%d\t%.1f\t%d\t%d\t%d\t%d\t%d\t%d\t\n", kind, t.Done, float64(t.Bytes)/1e6, t.GivenUp, t.Again, t.Failed, t.Unsure, t.Lost, t.Corrupt)
	}
	return w.Flush()
}

func soakLevels(out io.Writer, r *soak.Row) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "\nwhat is held\tat first\tat last\tat most\tgrowth\tallowed\t\t")
	for _, l := range r.Levels {
		show := func(v float64) string {
			if l.Unit == "bytes" {
				return fmt.Sprintf("%.2f MB", v/1e6)
			}
			return fmt.Sprintf("%.1f", v)
		}
		if l.Result == soak.TooShort {
			fmt.Fprintf(w, "%s\t-\t-\t%s\t-\t-\t%s\t\n", l.Name, show(l.Most), l.Result)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", l.Name, show(l.First), show(l.Last), show(l.Most), show(l.Growth), show(l.Allowed), l.Result)
	}
	return w.Flush()
}

func soakBase(out io.Writer, r *soak.Row) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	after := "after a minute"
	if r.BaseAfter > 0 {
		after = fmt.Sprintf("%.1f s after", r.BaseAfter)
	}
	fmt.Fprintf(w, "\nwithout load\tbefore\t%s\t\t\n", after)
	for _, b := range r.Base {
		result := "back"
		if !b.Back {
			result = "not back"
		}
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%s\t\n", b.Name, b.Before, b.After, result)
	}
	fmt.Fprintln(w)
	return w.Flush()
}
