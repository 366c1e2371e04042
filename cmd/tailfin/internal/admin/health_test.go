package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestReadiness(t *testing.T) {
	var ready Readiness
	var fails atomic.Bool
	a, base := start(t, Options{Ready: &ready, Version: "v9", SinkCheck: func(context.Context) error {
		if fails.Load() {
			return errors.New("no space left on device")
		}
		return nil
	}})
	c := client(t)
	expect := func(status int, parts ...string) {
		t.Helper()
		resp, body := get(t, c, base+"/readyz")
		if resp.StatusCode != status {
			t.Errorf("%s: %s; want %d", resp.Status, body, status)
		}
		for _, p := range parts {
			if !strings.Contains(body, p) {
				t.Errorf("%q is not in %q", p, body)
			}
		}
		if resp, body := get(t, c, base+"/healthz"); resp.StatusCode != http.StatusOK || body != "ok\n" {
			t.Errorf("healthz: %s %q", resp.Status, body)
		}
	}
	expect(503, "not ready: starting")
	ready.SetReady(true, "")
	expect(200, "ready")
	fails.Store(true)
	eventually(t, "the failing sink shows", func() bool {
		resp, _ := get(t, c, base+"/readyz")
		return resp.StatusCode == http.StatusServiceUnavailable
	})
	ready.SetReady(false, "draining")
	expect(503, "draining", "sink: no space left on device")
	var verbose struct {
		Ready   bool     `json:"ready"`
		Reasons []string `json:"reasons"`
	}
	if _, body := get(t, c, base+"/readyz?verbose"); json.Unmarshal([]byte(body), &verbose) != nil || verbose.Ready || len(verbose.Reasons) != 2 {
		t.Errorf("readyz?verbose: %s", body)
	}
	var h Health
	if _, body := get(t, c, base+"/healthz?verbose"); json.Unmarshal([]byte(body), &h) != nil || h.Status != "ok" || h.Version != "v9" || h.Ready || len(h.Reasons) != 2 || h.PID == 0 {
		t.Errorf("healthz?verbose: %s", body)
	}
	fails.Store(false)
	ready.SetReady(true, "")
	eventually(t, "recovery by itself", func() bool { ok, _ := a.CheckReady(t.Context()); return ok })
}

// TestReadyzDoesNotHammer has many ask at once, and few questions come to the sink.
func TestReadyzDoesNotHammer(t *testing.T) {
	var asked atomic.Int64
	var work sync.WaitGroup
	c := &checker{ctx: t.Context(), work: &work, timeout: patience, fresh: time.Hour, check: func(context.Context) error {
		asked.Add(1)
		return nil
	}}
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			if err := c.result(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	work.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("the sink was asked %d times", n)
	}
}

// TestSinkThatHangs does not hang /readyz, and is not asked again meanwhile.
func TestSinkThatHangs(t *testing.T) {
	var asked atomic.Int64
	release := make(chan struct{})
	var work sync.WaitGroup
	c := &checker{ctx: t.Context(), work: &work, timeout: 50 * time.Millisecond, fresh: 10 * time.Millisecond, check: func(context.Context) error {
		asked.Add(1)
		<-release // not of its context
		return nil
	}}
	for range 3 {
		if err := c.result(t.Context()); err == nil || !strings.Contains(err.Error(), "no answer within") {
			t.Errorf("err is %v", err)
		}
		time.Sleep(c.fresh)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the sink was asked %d times", n)
	}
	close(release)
	work.Wait()
	if known := c.known(); known.err != nil {
		t.Errorf("after it has answered: %v", known.err)
	}
}

// TestCheckHasADeadline for sinks that heed their context.
func TestCheckHasADeadline(t *testing.T) {
	var work sync.WaitGroup
	c := &checker{ctx: t.Context(), work: &work, timeout: 20 * time.Millisecond, check: func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}}
	if err := c.result(t.Context()); err == nil || !strings.Contains(err.Error(), "no answer within 20ms") {
		t.Errorf("err is %v", err)
	}
	work.Wait()
}

func TestCloseEndsChecks(t *testing.T) {
	begun := make(chan struct{})
	a, err := New(Options{Log: quiet, SinkCheck: func(ctx context.Context) error {
		close(begun)
		<-ctx.Done()
		return ctx.Err()
	}})
	if err != nil {
		t.Fatal(err)
	}
	a.checker.refresh()
	<-begun
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if err := a.checker.result(t.Context()); err == nil {
		t.Error("a check after Close went well")
	}
}
