package idle

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin/bench/proc"
	"github.com/tailfin-quic/tailfin/bench/rounds"
	"github.com/tailfin-quic/tailfin/bench/servers"
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

func small() Config {
	return Config{Receivers: servers.Names, Conns: 20, Time: 100 * time.Millisecond, Plan: rounds.Plan{Rounds: 1, Seed: 1}}
}

// TestRun has every receiver keep a few connections, and looks at what must hold of
// any: each has a goroutine at least, and some bytes.
func TestRun(t *testing.T) {
	t.Parallel()
	conf := small()
	conf.KeepAlive, conf.Profile = time.Second, t.TempDir()
	rows, err := Run(t.Context(), conf)
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(servers.Names) {
		t.Fatalf("%+v", rows)
	}
	for i, row := range rows {
		if row.Skipped != "" || row.Rounds != 1 || row.Conns != 20 || row.KeepAlive != 1 || row.Path != "loopback" {
			t.Errorf("%+v", row)
		}
		if row.Heap < 1000 || row.Goroutines < 1 || row.CPU < 0 || row.Bytes != row.Heap+row.Stacks {
			t.Errorf("%+v", row)
		}
		// A process may give back more memory than so few connections take.
		both := row.RSS > 0 && rows[0].RSS > 0
		if row.ToStock == nil || row.RSSToStock == nil && both || len(row.Samples["heap_bytes_per_connection"]) != 1 {
			t.Errorf("%+v", row)
		}
		if (row.Reader == servers.Stock) != (i == 0) || (row.Drain == "on") != (i == 2) {
			t.Errorf("%+v", row)
		}
		profile := filepath.Join(conf.Profile, "idle-20-"+servers.Names[i]+".pprof")
		if info, err := os.Stat(profile); err != nil || info.Size() == 0 {
			t.Errorf("no profile: %v", err)
		}
	}
}

func TestRunEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	conf := small()
	conf.Progress = func(done, _ int, _ string) {
		if done == 2 {
			cancel()
		}
	}
	if _, err := Run(ctx, conf); !errors.Is(err, context.Canceled) {
		t.Errorf("%v from a context that is done", err)
	}
}

// TestFailure has a receiver that cannot start.
func TestFailure(t *testing.T) {
	t.Parallel()
	conf := small()
	conf.Receivers, conf.Profile = servers.Names[:1], filepath.Join(t.TempDir(), "no such folder")
	rows, err := Run(t.Context(), conf)
	if err != nil || len(rows) != 1 || !strings.Contains(rows[0].Skipped, "no such") || rows[0].Rounds != 0 {
		t.Errorf("%+v, %v", rows, err)
	}
}

func TestCheck(t *testing.T) {
	good := small()
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(c *Config){
		"no receivers":       func(c *Config) { c.Receivers = nil },
		`no receiver "fast"`: func(c *Config) { c.Receivers = []string{"fast"} },
		"0 connections":      func(c *Config) { c.Conns = 0 },
		"PINGs every 1ms":    func(c *Config) { c.KeepAlive = time.Millisecond },
		"0s of idling":       func(c *Config) { c.Time = 0 },
		"0 pairs":            func(c *Config) { c.Rounds = 0 },
		`no path "moon"`:     func(c *Config) { c.Path = "moon" },
	} {
		c := good
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
