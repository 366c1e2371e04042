package report

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchunit"
)

// TestText reads what Text writes as benchstat does.
func TestText(t *testing.T) {
	d := sample(t)
	var out bytes.Buffer
	if err := Text(&out, d); err != nil {
		t.Fatal(err)
	}
	names := map[string]int{}
	r := benchfmt.NewReader(&out, "sample")
	for r.Scan() {
		switch rec := r.Result().(type) {
		case *benchfmt.Result:
			names[string(rec.Name)]++
			for key, want := range map[string]string{"goos": "linux", "goarch": "amd64", "kernel": "6.18.44-fc-v782", "cpu": "AMD EPYC"} {
				if got := rec.GetConfig(key); got != want {
					t.Fatalf("%s: %s is %q", rec.Name, key, got)
				}
			}
			if base, parts := rec.Name.Parts(); len(parts) < 2 || !bytes.Equal(parts[len(parts)-1], []byte("-2")) || len(base) == 0 {
				t.Errorf("%s has no dimensions or no number of processors", rec.Name)
			}
			for _, v := range rec.Values {
				if strings.Contains(v.Unit, " ") || v.Value < 0 {
					t.Errorf("%s: %v %q", rec.Name, v.Value, v.Unit)
				}
			}
		case *benchfmt.SyntaxError:
			t.Errorf("%v", rec)
		}
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	// A line for each of 5 rounds, and one for the latency, of which there are no samples.
	if n := names["Recv/path=veth/pinned=yes/segments=16/payload=1252/flows=1/rate=1000/reader=auto-2"]; n != 6 {
		t.Errorf("%d lines of a row with 5 rounds; there are %v", n, len(names))
	}
	for name := range names {
		if strings.Contains(name, "reader=c-2") && strings.Contains(name, "flows=256") || strings.Contains(name, "reader=mmsg-gro") && strings.Contains(name, "flows=256") && strings.Contains(name, "segments=16") {
			t.Errorf("%s is not valid, and in the text", name)
		}
	}
	if m := r.Units().Get("ns/datagram", "better"); m == nil || m.Value != "lower" {
		t.Errorf("ns/datagram: better %v", m)
	}
	if v, unit := benchunit.Tidy(171, "ns/datagram"); unit != "sec/datagram" || v < 170e-9 || v > 172e-9 {
		t.Errorf("171 ns/datagram is %v %s to benchstat", v, unit)
	}
	if class := benchunit.ClassOf("B/conn"); class != benchunit.Binary {
		t.Errorf("bytes are scaled as %v", class)
	}
}

// TestBenchstat runs benchstat, of the version in go.mod.
func TestBenchstat(t *testing.T) {
	goCommand, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go command to build benchstat: ", err)
	}
	file := filepath.Join(t.TempDir(), "bench.txt")
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := Text(out, sample(t)); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), goCommand, "tool", "benchstat", "-filter", ".name:Recv /path:veth", "-col", "/reader", file)
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, part := range []string{"stock", "auto", "sec/datagram", "vs base", "Recv/path=veth/pinned=yes/segments=44/payload=1252/flows=1/rate=max"} {
		if !strings.Contains(string(text), part) {
			t.Errorf("%q is not in\n%s", part, text)
		}
	}
}
