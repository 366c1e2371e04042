package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tailfin-quic/tailfin/bench/soak"
)

// TestBenchSoak soaks for some seconds, with faults and a take-over: nothing may be lost.
func TestBenchSoak(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	got := runTailfin(t, "bench", "soak", "--minutes", "0.1", "--every", "500ms", "--fault-every", "1s", "--takeovers", "1", "--clients", "0.1", "--seed", "5",
		"--dir", dir, "--json", at("soak.json"), "--html", at("soak.html"), "--text", at("soak.txt"))
	if got.code != exitOK || !strings.Contains(got.stdout, "pass") || !strings.Contains(got.stderr, "take-over") {
		t.Fatalf("%d\n%s\n%s", got.code, got.stdout, got.stderr)
	}
	text, err := os.ReadFile(at("soak.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Seed uint64
		Rows []soak.Row
	}
	if err := json.Unmarshal(text, &d); err != nil || d.Seed != 5 || len(d.Rows) != 1 {
		t.Fatalf("%v, %+v", err, d)
	}
	r := d.Rows[0]
	t.Logf("%s\n%s", got.stdout, got.stderr)
	if r.Scenario != "soak" || r.Result != soak.Pass || r.Requests < 5 || r.Takeovers != 1 || r.Faults < 1 || r.BaseAfter == 0 {
		t.Errorf("%+v", r)
	}
	for _, name := range []string{"heap_live_bytes", "goroutines", "descriptors", "connections_open", "rss_bytes", "client_heap_live_bytes"} {
		if values := r.Samples[name]; len(values) < 3 || len(values) != len(r.Samples["time_s"]) || slices.Max(values) <= 0 {
			t.Errorf("%s: %v", name, values)
		}
	}
	page, err := os.ReadFile(at("soak.html"))
	if err != nil || !bytes.Contains(page, []byte("What the process holds, over time")) || bytes.Count(page, []byte(`role="img"`)) != 3 {
		t.Errorf("the page: %v, %d bytes", err, len(page))
	}
	left, _ := filepath.Glob(at("tailfin-soak-*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	for _, args := range [][]string{{"--minutes", "0"}, {"--every", "1h"}, {"--path", "moon"}, {"--takeovers", "-1"}, {"--dir", at("none")}} {
		if code := run(append([]string{"bench", "soak"}, args...)); code != exitUsage {
			t.Errorf("%v: exit code %d", args, code)
		}
	}
}
