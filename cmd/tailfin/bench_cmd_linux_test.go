package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/perf/benchfmt"

	"github.com/tailfin-quic/tailfin/bench/report"
)

// TestBenchReports measures a little, and takes what was written through report and
// check.
func TestBenchReports(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	got := runTailfin(t, "bench", "transfer", "--measure", "cost", "--bytes", "2097152", "--flows", "1", "--pairs", "1", "--no-pin", "--json", at("a.json"), "--html", at("a.html"), "--text", at("a.txt"))
	if got.code != exitOK || !strings.Contains(got.stdout, "CPU s/GB") {
		t.Fatalf("%+v", got)
	}
	d, err := report.ReadFiles(at("a.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Rows) != 3 || d.Seed == 0 || d.Environment["rlimit_nofile"] == nil {
		t.Errorf("%+v", d)
	}
	page, err := os.ReadFile(at("a.html"))
	if err != nil || !bytes.Contains(page, []byte("Uploads: processor time and throughput")) || !bytes.Contains(page, []byte(`id="verdicts"`)) {
		t.Errorf("the page: %v, %d bytes", err, len(page))
	}
	text, err := os.ReadFile(at("a.txt"))
	if err != nil || results(t, text) != 3 {
		t.Errorf("the text: %v, %s", err, text)
	}

	got = runTailfin(t, "bench", "report", at("a.json"), at("a.json"))
	if got.code != exitOK || results(t, []byte(got.stdout)) != 6 {
		t.Errorf("report: %+v", got)
	}
	got = runTailfin(t, "bench", "check", at("a.json"))
	if got.code != exitFailed || !strings.Contains(got.stderr, "not all targets are reached") || !strings.Contains(got.stdout, "no row of the scenario recv") {
		t.Errorf("check: %+v", got)
	}
	got = runTailfin(t, "bench", "check", "--json", at("a.json"))
	var out struct {
		Reached bool             `json:"reached"`
		Targets []report.Verdict `json:"targets"`
	}
	if err := json.Unmarshal([]byte(got.stdout), &out); err != nil || out.Reached || len(out.Targets) < 40 {
		t.Errorf("check --json: %v, %+v", err, got)
	}
	for _, args := range [][]string{
		{"report", at("a.txt")}, {"check", at("a.html")}, {"check", at("none.json")},
		{"report", at("a.json"), "--html", at("none/a.html")}, {"report", at("a.json"), "--json", "-", "--text", "-"},
		{"all", "--only", "goats"}, {"all", "--dir", at("a.txt")},
	} {
		if code := run(append([]string{"bench"}, args...)); code != exitUsage {
			t.Errorf("%v: exit code %d", args, code)
		}
	}
}

// results counts lines that benchstat would read.
func results(t *testing.T, text []byte) (n int) {
	t.Helper()
	for r := benchfmt.NewReader(bytes.NewReader(text), "text"); r.Scan(); {
		switch rec := r.Result().(type) {
		case *benchfmt.Result:
			if _, has := rec.Value("cpu-sec/GB"); has { // what is not of each round has lines of its own
				n++
			}
		case *benchfmt.SyntaxError:
			t.Error(rec)
		}
	}
	return n
}

// TestBenchAllInterrupted stops a run on a terminal: the progress goes, and what there
// is by then is kept.
func TestBenchAllInterrupted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "results")
	term := onTerminal(t, 60, nil, "bench", "all", "--quick", "--only", "transfer", "--dir", dir)
	term.waitFor(t, "transfer (1 of 1): ")
	if err := term.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	// Its standard output is not on the terminal.
	if code, seen := term.wait(t); code != exitFailed || strings.Contains(strings.Join(screen(seen), "\n"), " of 9") {
		t.Errorf("exit code %d, the terminal shows %q", code, screen(seen))
	}
	d, err := report.ReadFiles(filepath.Join(dir, "bench.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Warnings) != 1 || !strings.Contains(d.Warnings[0], "transfer failed") {
		t.Errorf("warnings %q", d.Warnings)
	}
	for _, name := range []string{"bench.html", "bench.txt"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	hidden, _ := filepath.Glob(filepath.Join(dir, ".*"))
	if len(left)+len(hidden) != 3 {
		t.Errorf("in the folder: %v %v", left, hidden)
	}
}

// TestBenchAllRuns parses the flags that bench all gives to each scenario.
func TestBenchAllRuns(t *testing.T) {
	for _, c := range []*benchAllCmd{{Seed: 18446744073709551615}, {Seed: 1, Quick: true}} {
		runs, err := c.runs()
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, r := range runs {
			names[r.name] = true
			if cmd, ok := r.command.(*benchTransferCmd); ok && (cmd.Seed != c.Seed || cmd.Quick != c.Quick || cmd.Bytes == 0) {
				t.Errorf("%+v", cmd)
			}
		}
		if len(names) != len(scenarioNames()) {
			t.Errorf("runs of %v, and there are %v", names, scenarioNames())
		}
	}
	runs, err := (&benchAllCmd{Seed: 1, Only: []string{"recv"}}).runs()
	if err != nil || len(runs) == 0 || runs[0].name != "recv" {
		t.Errorf("%v, %v", runs, err)
	}
}

func TestBenchProgress(t *testing.T) {
	p := &benchProgress{label: "recv (1 of 2)", parts: 2, start: time.Now()}
	if got := p.text(p.start.Add(2 * time.Second)); got != "recv (1 of 2): part 1 of 2, 0 of 0, 2s: begins" {
		t.Error(got)
	}
	p.part(1)(3, 4, "auto")
	// Half, and half of the other half.
	if got := p.text(p.start.Add(30 * time.Second)); got != "recv (1 of 2): part 2 of 2, 3 of 4, 30s, about 10s left: auto" {
		t.Error(got)
	}
	if got := cut("für", 2); got != "fü" {
		t.Error(got)
	}
}

// TestBenchIntoDevice has a report go into what is no regular file, which a program that
// runs as root could otherwise replace.
func TestBenchIntoDevice(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	read := make(chan []byte)
	go func() {
		text, _ := os.ReadFile(pipe)
		read <- text
	}()
	files, err := openBenchFiles(pipe, "", "")
	if err != nil {
		t.Fatal(err)
	}
	const document = `{"environment":{},"seed":1,"rows":[]}`
	if err := files.write([]byte(document)); err != nil {
		t.Error(err)
	}
	if got := <-read; string(got) != document+"\n" {
		t.Errorf("it was given %q", got)
	}
	if info, err := os.Lstat(pipe); err != nil || info.Mode().Type() != os.ModeNamedPipe {
		t.Errorf("it is not there any more: %v, %v", info, err)
	}
}
