package decode

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin/bench/proc"
	"github.com/tailfin-quic/tailfin/bench/rounds"
	"github.com/tailfin-quic/tailfin/bench/stat"
)

func TestMain(m *testing.M) {
	proc.Child(Roles())
	os.Exit(m.Run())
}

// TestRun has the readers of a transcript take turns, and looks at what must hold of
// any, however slow.
func TestRun(t *testing.T) {
	for _, name := range []string{Headers, ResponseFields} {
		t.Run(name, func(t *testing.T) {
			var told []string
			conf := Config{Transcript: name, Time: 2 * time.Millisecond, Plan: rounds.Plan{Rounds: 2, Seed: 1,
				Progress: func(_, _ int, what string) { told = append(told, what) }}}
			rows, err := Run(t.Context(), conf)
			if err != nil {
				t.Fatal(err)
			}
			readers := Readers(name)
			if len(rows) != len(readers) || len(told) != 2*len(readers) || !strings.HasPrefix(told[0], name+", ") {
				t.Fatalf("told of %q, rows %+v", told, rows)
			}
			for i, row := range rows {
				if row.Reader != readers[i] || row.Transcript != name || row.Scenario != "decode" || row.Skipped != "" || row.Invalid != "" || row.Rounds != 2 {
					t.Errorf("%+v", row)
				}
				if row.NS <= 0 || row.Gbit <= 0 || row.Allocs < 0 || row.Frames <= 0 || row.Bytes <= 0 || stat.Median(row.Samples["ns_per_frame"]) != row.NS {
					t.Errorf("%+v", row)
				}
				frames := name == Headers
				if (row.ToVarint != nil) != frames || (row.ToHTTP2 != nil) != frames || (row.ToQPACK != nil) == frames || (row.ToHPACK != nil) == frames {
					t.Errorf("%+v", row)
				}
				// A head is a map and its values; a floor is nothing of the kind.
				switch row.Reader {
				case Message, Heads:
					if row.Allocs < 5 {
						t.Errorf("%s takes %.2f pieces of memory a head", row.Reader, row.Allocs)
					}
				case Varint:
					if row.Allocs > 0.5 {
						t.Errorf("%s takes %.2f pieces of memory a frame", row.Reader, row.Allocs)
					}
				}
			}
		})
	}
}

func TestRunEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	conf := Config{Transcript: Small, Time: 2 * time.Millisecond, Plan: rounds.Plan{Rounds: 100, Progress: func(done, _ int, _ string) {
		if done == 3 {
			cancel()
		}
	}}}
	if _, err := Run(ctx, conf); !errors.Is(err, context.Canceled) {
		t.Errorf("%v from a context that is done", err)
	}
}

// TestWrongOutputEndsAll has a process report that something else came out.
func TestWrongOutputEndsAll(t *testing.T) {
	var invalid *rounds.Invalid
	if err := believed(Frames, &result{Invalid: "12 units came out, of 13"}, nil); !errors.As(err, &invalid) || !strings.Contains(err.Error(), "h3frame: 12 units") {
		t.Errorf("%v", err)
	}
	if err := believed(Frames, &result{}, nil); err != nil {
		t.Errorf("%v", err)
	}
}
