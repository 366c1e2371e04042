package transfer

import (
	"context"
	"crypto/tls"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/tailfin-quic/tailfin/bench/proc"
	"github.com/tailfin-quic/tailfin/bench/rounds"
)

func TestMain(m *testing.M) {
	proc.Child(Roles(func() (tls.Certificate, error) {
		s := httptest.NewUnstartedServer(nil)
		defer s.Close()
		s.StartTLS()
		return s.TLS.Certificates[0], nil
	}))
	os.Exit(m.Run())
}

// TestRun has every receiver take small uploads, and looks at what must hold of
// any run, however slow.
func TestRun(t *testing.T) {
	var told int
	conf := Config{Receivers: Receivers, Bytes: 4 << 20, Streams: 3, Plan: rounds.Plan{Rounds: 1, Seed: 1,
		Progress: func(done, total int, _ string) {
			if told++; done != told || total != 3 {
				t.Errorf("run %d of %d, told %d times", done, total, told)
			}
		}}}
	rows, err := Run(t.Context(), conf)
	if err != nil {
		t.Fatal(err)
	}
	if told != 3 || len(rows) != 3 {
		t.Fatalf("%d runs, rows %+v", told, rows)
	}
	for i, row := range rows {
		if row.Skipped != "" || row.Rounds != 1 || row.CPU <= 0 || row.Gbit <= 0 || row.Allocs <= 0 || row.Flows != 3 {
			t.Errorf("%+v", row)
		}
		if (row.Reader == Stock) != (i == 0) || row.ToStock == nil || row.ToOff == nil {
			t.Errorf("%+v", row)
		}
	}
	// quic-go's tracer allocates for every packet: where that does not show, the
	// drain was not on, or not off.
	if off, on := rows[1], rows[2]; on.Drain != DrainOn || on.Allocs < off.Allocs+1 {
		t.Errorf("allocations with the drain %.2f, without %.2f", on.Allocs, off.Allocs)
	}
}

func TestRunEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, Config{Receivers: Receivers, Bytes: 1 << 20, Streams: 1, Plan: rounds.Plan{Rounds: 1}}); err == nil {
		t.Error("no error from a context that is done")
	}
}

func TestCheck(t *testing.T) {
	good := Config{Receivers: []string{Stock}, Bytes: 1 << 20, Streams: 1, Plan: rounds.Plan{Rounds: 1}}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(c *Config){
		"no receivers":       func(c *Config) { c.Receivers = nil },
		`no receiver "fast"`: func(c *Config) { c.Receivers = []string{"fast"} },
		"0 bytes":            func(c *Config) { c.Bytes = 0 },
		"0 streams":          func(c *Config) { c.Streams = 0 },
		"1001 streams":       func(c *Config) { c.Streams = 1001 },
		"0 pairs":            func(c *Config) { c.Rounds = 0 },
	} {
		c := good
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
