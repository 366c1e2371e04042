package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/google/renameio/v2"

	"github.com/tailfin-quic/tailfin/bench/netlab"
	"github.com/tailfin-quic/tailfin/bench/recv"
)

// benchVars are what the help of bench's flags mentions.
var benchVars = kong.Vars{
	"readers": strings.Join(recv.Readers, ", "), "paths": strings.Join(netlab.Paths, ", "), "scenarios": strings.Join(scenarioNames(), ", "),
}

// A benchScenario is a command of bench that bench all runs.
type benchScenario struct {
	name string
	// command makes one with nothing set: its flags are parsed as on a command line.
	command func() benchRunner
	// full are the flags of its runs, one after the other: all that a target is about.
	full [][]string
}

type benchRunner interface {
	Run(ctx context.Context) error
}

// benchScenarios are run in this order: those with targets first.
func benchScenarios() []benchScenario {
	const targets = "--readers=stock,mmsg-gro,auto,c" // those that targets compare
	return []benchScenario{
		{"transfer", func() benchRunner { return &benchTransferCmd{} }, [][]string{
			{"--measure=cost,goodput"},
			{"--path=veth", "--measure=cost,goodput"},
			{"--path=veth-cut", "--measure=cost", "--flows=1,16"},
			{"--path=wan", "--measure=cost", "--flows=1,16", "--bytes=67108864"},
			{"--measure=latency,shards,download,ngtcp2,iperf3", "--time=2s"},
		}},
		{"recv", func() benchRunner { return &benchRecvCmd{} }, [][]string{
			{targets, "--path=loopback,veth", "--payload=1252", "--pin=both", "--flows=1", "--rate=20000,100000,0"},
			{"--readers=stock,auto", "--path=loopback,veth", "--payload=1252", "--pin=both", "--flows=16,256", "--rate=20000,100000,0", "--duration=200ms", "--no-lone"},
			{targets, "--path=veth-cut,wan", "--payload=1252", "--segments=1,16", "--flows=1,16", "--rate=50000", "--no-lone"},
			{"--readers=stock,msg,mmsg,msg-gro,mmsg-gro,uring,uring-gro,auto,paced,c,c-wait,c-mmsg,iperf3", "--payload=64,1200,1452", "--segments=1,16", "--flows=1", "--rate=100000,0", "--pairs=3", "--duration=200ms", "--no-lone"},
		}},
		{"closerace", func() benchRunner { return &benchCloseraceCmd{} }, [][]string{
			{"--sizes=1000", "--reader-delays=0s", "--iterations=5000"},
			{"--receivers=stock,on", "--sizes=100,9000,200000", "--delays=0s,1ms", "--reader-delays=0s", "--iterations=5000"},
			{"--receivers=stock,on", "--sizes=9000", "--delays=0s,1ms", "--reader-delays=50ms", "--iterations=5000"},
			{"--path=veth", "--receivers=stock,on", "--sizes=9000", "--delays=0s,1ms", "--reader-delays=0s", "--iterations=5000"},
		}},
		{"idle", func() benchRunner { return &benchIdleCmd{} }, [][]string{{"--keep-alive=0s", "--time=5s"}}},
		{"decode", func() benchRunner { return &benchDecodeCmd{} }, [][]string{nil}},
		{"uploads", func() benchRunner { return &benchUploadsCmd{} }, [][]string{nil}},
	}
}

func scenarioNames() []string {
	var list []string
	for _, s := range benchScenarios() {
		list = append(list, s.name)
	}
	return list
}

// benchAllCmd is `tailfin bench all`.
type benchAllCmd struct {
	Dir   string   `default:"bench-results" placeholder:"DIR" help:"Folder for bench.json, bench.txt and bench.html; made if it is not there (${default})."`
	Only  []string `placeholder:"NAME,…" help:"Scenarios to run: ${scenarios} (all)."`
	Quick bool     `help:"A small matrix of each, which ends within 50 seconds."`
	Seed  uint64   `placeholder:"N" help:"Of the order of runs; drawn if it is 0."`
}

// Run runs the scenarios, and writes all reports after each of them: what was measured
// before an interruption is kept. It fails if a scenario does, and goes on to the next.
func (c *benchAllCmd) Run(ctx context.Context, parent *benchCmd) error {
	for _, name := range c.Only {
		if !slices.Contains(scenarioNames(), name) {
			return &usageError{"--only", name, errors.New("no such scenario"), "give some of " + strings.Join(scenarioNames(), ", ")}
		}
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return &usageError{"--dir", c.Dir, err, "give a folder that can be written"}
	}
	// Before anything is measured: whether files can be written there.
	probe, err := renameio.NewPendingFile(filepath.Join(c.Dir, "bench.json"))
	if err != nil {
		return &usageError{"--dir", c.Dir, err, "give a folder that can be written"}
	}
	_ = probe.Cleanup()
	for c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
	runs, err := c.runs()
	if err != nil {
		return err
	}
	all := &benchDocument{}
	var failed error
	for i, run := range runs {
		fmt.Printf("\n%s (%d of %d)\n\n", run.name, i+1, len(runs))
		order := benchOrder{label: fmt.Sprintf("%s (%d of %d)", run.name, i+1, len(runs)), collect: all.add}
		if err := run.command.Run(context.WithValue(ctx, benchOrderKey{}, order)); err != nil {
			all.Warnings = append(all.Warnings, fmt.Sprintf("%s failed: %v", run.name, err))
			failed = errors.Join(failed, fmt.Errorf("%s: %w", run.name, err))
		}
		if err := all.write(filepath.Join(c.Dir, "bench.json"), filepath.Join(c.Dir, "bench.html"), filepath.Join(c.Dir, "bench.txt")); err != nil {
			return errors.Join(err, failed)
		}
		if ctx.Err() != nil {
			break
		}
	}
	fmt.Printf("\n%s has bench.json, bench.txt and bench.html\n", c.Dir)
	return errors.Join(failed, all.write("", parent.HTML, parent.Text))
}

// A namedRun is a scenario's command with its flags set.
type namedRun struct {
	name    string
	command benchRunner
}

// runs are those of the scenarios that are wanted.
func (c *benchAllCmd) runs() ([]namedRun, error) {
	var list []namedRun
	for _, s := range benchScenarios() {
		if len(c.Only) > 0 && !slices.Contains(c.Only, s.name) {
			continue
		}
		flags := s.full
		if c.Quick {
			flags = [][]string{{"--quick"}}
		}
		for _, f := range flags {
			command := s.command()
			parser, err := kong.New(command, kong.Name("tailfin bench "+s.name), kong.Exit(func(int) {}), benchVars)
			if err == nil {
				_, err = parser.Parse(append(slices.Clone(f), fmt.Sprintf("--seed=%d", c.Seed)))
			}
			if err != nil {
				return nil, fmt.Errorf("bench %s %s: %w", s.name, strings.Join(f, " "), err)
			}
			list = append(list, namedRun{s.name, command})
		}
	}
	return list, nil
}

// A benchDocument is of several scenarios, whose rows stay as they were written.
type benchDocument struct {
	Environment json.RawMessage   `json:"environment"`
	Seed        uint64            `json:"seed"`
	Warnings    []string          `json:"warnings,omitempty"`
	Rows        []json.RawMessage `json:"rows"`
}

// add takes the rows of a document. The environment is that of the first: the program
// and the machine are the same.
func (d *benchDocument) add(text []byte) error {
	var one benchDocument
	if err := json.Unmarshal(text, &one); err != nil {
		return err
	}
	if d.Environment == nil {
		d.Environment, d.Seed = one.Environment, one.Seed
	}
	d.Rows = append(d.Rows, one.Rows...)
	return nil
}

// write makes reports of all that there is so far.
func (d *benchDocument) write(jsonTo, htmlTo, textTo string) error {
	if d.Environment == nil {
		return nil // nothing was measured yet
	}
	text, err := json.MarshalIndent(d, "", " ")
	if err != nil {
		return err
	}
	files, err := openBenchFiles(jsonTo, htmlTo, textTo)
	if err != nil {
		return err
	}
	defer files.cleanup()
	return files.write(text)
}
