package hostile

import (
	"os"
	"path/filepath"
	"testing"
)

// tb notes whether a test would have failed.
type tb struct {
	testing.TB
	failed bool
}

func (*tb) Helper()                 {}
func (*tb) Log(...any)              {}
func (t *tb) Error(...any)          { t.failed = true }
func (t *tb) Errorf(string, ...any) { t.failed = true }

func TestReport(t *testing.T) {
	name := filepath.Join(t.TempDir(), "table.md")
	t.Setenv("TAILFIN_HOSTILE_TABLE", name)
	well := Result{Kind: "peer", Fault: "a|b", Tries: 3, Bound: "1 of 2"}
	for i, tc := range []struct {
		change func(*Result)
		failed bool
	}{
		{func(*Result) {}, false},
		{func(r *Result) { r.Tries = 0 }, true},
		{func(r *Result) { r.Lost = 1 }, true},
		{func(r *Result) { r.Corrupt = 1 }, true},
		{func(r *Result) { r.Leaked = 1 }, true},
		{func(r *Result) { r.Crashed = 1 }, true},
		{func(r *Result) { r.Bound = "" }, true},
	} {
		r, said := well, &tb{TB: t}
		tc.change(&r)
		if r.Report(said); said.failed != tc.failed {
			t.Errorf("%d: %+v failed: %v", i, r, said.failed)
		}
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	const first = "| peer | a\\|b | 3 | 0 | 0 | 0 | 0 | 1 of 2 |\n"
	if len(text) < len(first) || string(text[:len(first)]) != first {
		t.Errorf("table: %s", text)
	}
}

func TestSize(t *testing.T) {
	t.Setenv("TAILFIN_HOSTILE", "")
	if n := Size(3, 7); n != 3 {
		t.Error(n)
	}
	t.Setenv("TAILFIN_HOSTILE", "full")
	if n := Size(3, 7); n != 7 {
		t.Error(n)
	}
}
