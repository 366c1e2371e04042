package uploads

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin/bench/netlab"
	"github.com/tailfin-quic/tailfin/bench/proc"
	"github.com/tailfin-quic/tailfin/bench/rounds"
	"github.com/tailfin-quic/tailfin/bench/stat"
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
		Receivers: Receivers, Path: netlab.Loopback, Storage: storage, Dir: t.TempDir(), Conns: 2, InFlight: 2, Size: 1000,
		Time: 50 * time.Millisecond, Plan: rounds.Plan{Rounds: 2, Seed: 1},
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
		if row.P50 <= 0 || row.P99 < row.P50 || row.Storage != storeFiles || row.Flows != 2 || row.InFlight != 2 || row.Size != 1000 || row.GOGC != 150 {
			t.Errorf("%+v", row)
		}
		if (row.Reader == Stock) != (i == 0) || row.ToStock == nil || row.PerCPUToStock <= 0 || row.Path != netlab.Loopback {
			t.Errorf("%+v", row)
		}
		if cpu := row.Samples["cpu_us_per_upload"]; len(cpu) != 2 || stat.Median(cpu) != row.CPU {
			t.Errorf("samples %v of %v", row.Samples, row.CPU)
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
	conf.Receivers, conf.Files, conf.Rounds = []string{DrainOn}, true, 1
	if _, err := Run(t.Context(), conf); err == nil || !strings.Contains(err.Error(), "stored 0") {
		t.Errorf("%v", err)
	}
}

// tiny is small for Requests.
func tiny(t *testing.T, method string, size int) Config {
	conf := small(t, "")
	conf.Receivers, conf.Conns = []string{Stock, DrainOff}, 1
	conf.Method, conf.Size, conf.Answer = method, size, 5
	return conf
}

// TestRequests has two receivers answer some requests.
func TestRequests(t *testing.T) {
	for method, size := range map[string]int{http.MethodGet: 0, http.MethodPost: 16} {
		t.Run(method, func(t *testing.T) {
			conf := tiny(t, method, size)
			var told []string
			conf.Progress = func(_, _ int, what string) { told = append(told, what) }
			rows, err := Requests(t.Context(), conf)
			if err != nil || len(rows) != 2 {
				t.Fatalf("%+v, %v", rows, err)
			}
			if len(told) != 4 || !strings.HasPrefix(told[0], method+"-1, ") {
				t.Errorf("told of %q", told)
			}
			for i, row := range rows {
				if row.Skipped != "" || row.Rounds != 2 || row.PerCPU <= 0 || row.CPU <= 0 || row.Rate <= 0 || row.Allocs <= 0 || row.P99 < row.P50 || row.P50 <= 0 {
					t.Errorf("%+v", row)
				}
				if row.Scenario != "requests" || row.Method != method || row.Size != size || row.Answer != 5 || row.ToStock == nil || row.PerCPUToStock <= 0 {
					t.Errorf("%+v", row)
				}
				if (row.Reader == Stock) != (i == 0) || len(row.Samples["requests_per_cpu_s"]) != 2 || len(row.Samples["p99_us"]) != 2 {
					t.Errorf("%+v", row)
				}
			}
		})
	}
}

// TestJSONIsFlat looks for figures where readers of the JSON look.
func TestJSONIsFlat(t *testing.T) {
	text, err := json.Marshal(RequestRow{Base: Base{Scenario: "requests", RatioToStock: 0.5}, PerCPU: 2})
	if err != nil {
		t.Fatal(err)
	}
	var row map[string]any
	if err := json.Unmarshal(text, &row); err != nil || row["scenario"] != "requests" || row["ratio_to_stock"] != 0.5 || row["requests_per_cpu_s"] != 2.0 {
		t.Errorf("%s, %v", text, err)
	}
}

// TestWrongAnswers has an answer of the wrong bytes, one that is too long and one that
// is too short, and receivers that count other than the sender.
func TestWrongAnswers(t *testing.T) {
	for answer, wrong := range map[string]bool{"tailf": false, "tails": true, "tailfin": true, "tail": true} {
		server := httptest.NewTLSServer(http.NotFoundHandler())
		defer server.Close()
		handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) })
		addr, err := serve(Stock, netip.MustParseAddrPort("127.0.0.1:0"), server.TLS.Certificates[0], handler)
		if err != nil {
			t.Fatal(err)
		}
		s := newSender(senderConfig{Addr: addr, Method: http.MethodGet, Status: http.StatusOK, Answer: 5, Conns: 1, InFlight: 1})
		defer s.close()
		n, err := s.workers(t.Context(), func(begun int) bool { return begun < 2 })
		if errors.As(err, new(*wrongAnswer)) != wrong || (n == 2) == wrong {
			t.Errorf("%q: %d requests, %v", answer, n, err)
		}
	}
	p := &pair{name: Stock, size: 3, counts: true}
	for _, c := range []struct {
		report sentReport
		want   string
	}{
		{sentReport{Requests: 2, Used: usage{Requests: 2, Bytes: 6}}, ""},
		{sentReport{Requests: 2, Used: usage{Requests: 1, Bytes: 3}}, "received 1 requests with 3 bytes, of 2 sent"},
		{sentReport{Requests: 2, Used: usage{Requests: 2, Bytes: 5}}, "received 2 requests with 5 bytes"},
		{sentReport{Error: "tails", Wrong: true}, "tails"},
	} {
		err := p.believed(&c.report, nil)
		if invalid := new(rounds.Invalid); errors.As(err, &invalid) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.report, err, c.want)
		}
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
		"0 pairs":                 func(c *Config) { c.Rounds = 0 },
		`no method "HEAD"`:        func(c *Config) { c.Method = http.MethodHead },
		"a GET with a body":       func(c *Config) { c.Method = http.MethodGet },
		`no path "moon"`:          func(c *Config) { c.Path = "moon" },
		"-1 bytes of an answer":   func(c *Config) { c.Answer = -1 },
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
