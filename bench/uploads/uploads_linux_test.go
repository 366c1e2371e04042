package uploads

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin/bench/proc"
)

// The storages of the tests.
const (
	storeFiles  = "files"
	storeForget = "forget" // answers as if it had stored
	storeRefuse = "refuse"
)

// newTestHandler stores each body as a file of dir, or does not.
func newTestHandler(_, storage, dir string) (http.Handler, error) {
	if storage == storeRefuse {
		return nil, errors.New("no such storage here")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil && storage == storeFiles {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(r.URL.Path)), body, 0o600)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusCreated)
	}), nil
}

func TestMain(m *testing.M) {
	proc.Child(Roles(func() (tls.Certificate, error) {
		s := httptest.NewUnstartedServer(nil)
		defer s.Close()
		s.StartTLS()
		return s.TLS.Certificates[0], nil
	}, newTestHandler))
	os.Exit(m.Run())
}

func small(t *testing.T, storage string) Config {
	return Config{
		Receivers: Receivers, Storage: storage, Dir: t.TempDir(), Conns: 3, InFlight: 2, Size: 1000,
		Time: 50 * time.Millisecond, Pairs: 2, Seed: 1,
	}
}

// TestRun has every receiver take some uploads, and looks at what must hold of any
// run, however slow.
func TestRun(t *testing.T) {
	conf := small(t, storeFiles)
	conf.Files, conf.GOGC, conf.Profile = true, 150, t.TempDir()
	told := 0
	conf.Progress = func(done, total int, _ string) {
		if told++; done != told || total != 6 {
			t.Errorf("turn %d of %d, told %d times", done, total, told)
		}
	}
	rows, err := Run(t.Context(), conf)
	if err != nil {
		t.Fatal(err)
	}
	if told != 6 || len(rows) != 3 {
		t.Fatalf("%d turns, rows %+v", told, rows)
	}
	for i, row := range rows {
		if row.Skipped != "" || row.Rounds != 2 || row.PerCPU <= 0 || row.CPU <= 0 || row.Rate <= 0 || row.Goodput <= 0 || row.Allocs <= 0 {
			t.Errorf("%+v", row)
		}
		if row.P50 <= 0 || row.P99 < row.P50 || row.Storage != storeFiles || row.Flows != 3 || row.InFlight != 2 || row.Size != 1000 || row.GOGC != 150 {
			t.Errorf("%+v", row)
		}
		if (row.Reader == Stock) != (i == 0) || row.ToStock == nil || row.PerCPUToStock <= 0 {
			t.Errorf("%+v", row)
		}
	}
	if rows[1].Drain != DrainOff || rows[2].Drain != DrainOn {
		t.Errorf("rows out of order: %+v", rows)
	}
	if left, err := os.ReadDir(conf.Dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	for _, name := range Receivers {
		if info, err := os.Stat(filepath.Join(conf.Profile, "files-"+name+"-gogc150.pprof")); err != nil || info.Size() == 0 {
			t.Errorf("profile of %s: %v", name, err)
		}
	}
}

// TestRunFindsLostUploads has a handler that answers and does not store.
func TestRunFindsLostUploads(t *testing.T) {
	conf := small(t, storeForget)
	conf.Receivers, conf.Files, conf.Pairs = []string{DrainOn}, true, 1
	if _, err := Run(t.Context(), conf); err == nil || !strings.Contains(err.Error(), "stored 0") {
		t.Errorf("%v", err)
	}
}

// TestRunSkips has receivers that cannot start.
func TestRunSkips(t *testing.T) {
	conf := small(t, storeRefuse)
	conf.Receivers = []string{Stock, DrainOn}
	rows, err := Run(t.Context(), conf)
	if err != nil || len(rows) != 2 {
		t.Fatalf("%+v, %v", rows, err)
	}
	for _, row := range rows {
		if !strings.Contains(row.Skipped, "no such storage here") || row.Rounds != 0 {
			t.Errorf("%+v", row)
		}
	}
}

func TestRunEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	conf := small(t, storeFiles)
	conf.Progress = func(done, _ int, _ string) {
		if done == 2 {
			cancel()
		}
	}
	if _, err := Run(ctx, conf); !errors.Is(err, context.Canceled) {
		t.Errorf("%v from a context that is done", err)
	}
}

func TestCheck(t *testing.T) {
	good := small(t, storeFiles)
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(c *Config){
		"no receivers":            func(c *Config) { c.Receivers = nil },
		`no receiver "fast"`:      func(c *Config) { c.Receivers = []string{"fast"} },
		"0 connections":           func(c *Config) { c.Conns = 0 },
		"101 requests in flight":  func(c *Config) { c.InFlight = 101 },
		"-1 bytes":                func(c *Config) { c.Size = -1 },
		"0 pairs":                 func(c *Config) { c.Pairs = 0 },
		"-1 percent for GOGC":     func(c *Config) { c.GOGC = -1 },
		"a run of 0s; give up to": func(c *Config) { c.Time = 0 },
	} {
		c := good
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
