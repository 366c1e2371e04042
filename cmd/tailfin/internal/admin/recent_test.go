package admin

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/slogtest"
	"time"

	"golang.org/x/time/rate"

	"github.com/tailfin-quic/tailfin/bench/hostile"
)

func TestRecentErrors(t *testing.T) {
	var out bytes.Buffer
	h := NewRecentErrors(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelError}), 8)
	log := slog.New(h)
	log.Info("started")
	log.With("peer", "192.0.2.1:5").WithGroup("tls").Warn("handshake failed", "err", errors.New("bad certificate"), slog.Group("alert", "code", 42))
	log.Error("store failed", "err", "no space left on device", "name", "a")
	log.Error("store failed", "err", "no space left on device", "name", "b")
	if text := out.String(); strings.Contains(text, "handshake failed") || strings.Count(text, "store failed") != 2 {
		t.Errorf("the next handler got\n%s", text)
	}
	got := h.Records()
	if len(got) != 2 {
		t.Fatalf("%d records: %+v", len(got), got)
	}
	if r := got[0]; r.Message != "store failed" || r.Count != 2 || r.Level != "ERROR" || r.Details[1] != (Detail{"name", "b"}) || r.Last.Before(r.First) {
		t.Errorf("newest: %+v", r)
	}
	want := []Detail{{"peer", "192.0.2.1:5"}, {"tls.err", "bad certificate"}, {"tls.alert.code", "42"}}
	if r := got[1]; r.Message != "handshake failed" || fmt.Sprint(r.Details) != fmt.Sprint(want) {
		t.Errorf("oldest: %+v", r)
	}
	if w, e := h.Counts(); w != 1 || e != 2 {
		t.Errorf("counts are %d and %d", w, e)
	}
}

// TestHostileRecent has peers make the log say much: it pushes nothing else out of the
// status page.
func TestHostileRecent(t *testing.T) {
	h := NewRecentErrors(slog.DiscardHandler, 8)
	h.log.limit = rate.NewLimiter(rate.Inf, 0)
	log := slog.New(h)
	flood := hostile.Result{Kind: "client", Fault: "a flood of errors on the status page", Tries: hostile.Size(1000, 1_000_000)}
	log.Error("disk failed", "err", "EIO")
	for i := range flood.Tries {
		log.Warn("request", "err", fmt.Sprintf("bad name %d %s", i, strings.Repeat("x", 2*maxText)))
	}
	got := h.Records()
	if len(got) != 3 || got[2].Message != "disk failed" {
		t.Errorf("%d records: %+v", len(got), got)
		flood.Lost++
	}
	size := 0
	for _, r := range got {
		for _, d := range r.Details {
			size += len(d.Key) + len(d.Value)
		}
	}
	for i := range 20 {
		log.Warn(fmt.Sprintf("message %d", i))
	}
	if n := len(h.Records()); n != 8 {
		t.Errorf("%d records are kept; want 8", n)
		flood.Leaked += max(n-8, 1)
	}
	warnings, _ := h.Counts()
	flood.Bound = fmt.Sprintf("%d records with %d bytes, 2 of them of the flood, 8 at most; tailfin_log_records_total{level=\"warn\"} %d", len(got), size, warnings)
	flood.Report(t)
}

// TestRecentIsLimited: records beyond a rate are counted, and not looked at.
func TestRecentIsLimited(t *testing.T) {
	h := NewRecentErrors(slog.DiscardHandler, 500)
	h.log.limit = rate.NewLimiter(0, 10)
	log := slog.New(h)
	for i := range 100 {
		log.Warn(fmt.Sprintf("message %d", i))
	}
	if w, _ := h.Counts(); w != 100 || len(h.Records()) != 10 {
		t.Errorf("%d counted, %d kept; want 100 and 10", w, len(h.Records()))
	}
}

func TestRecentIsBounded(t *testing.T) {
	h := NewRecentErrors(slog.DiscardHandler, 4)
	log := slog.New(h)
	args := []any{}
	for i := range 100 {
		args = append(args, fmt.Sprint("k", i), strings.Repeat("ä", 10_000))
	}
	log.Error(strings.Repeat("x\xff", 10_000), args...)
	r := h.Records()[0]
	if len(r.Message) > maxText+len("…") || len(r.Details) != maxDetails {
		t.Errorf("message of %d bytes, %d details", len(r.Message), len(r.Details))
	}
	for _, d := range r.Details {
		if len(d.Value) > maxText+len("…") || strings.ContainsRune(d.Value, '\ufffd') {
			t.Errorf("%s has %d bytes: %q", d.Key, len(d.Value), d.Value[maxText-4:])
		}
	}
}

func TestRecentConcurrently(t *testing.T) {
	h := NewRecentErrors(slog.DiscardHandler, 16)
	h.log.limit = rate.NewLimiter(rate.Inf, 0)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			log := slog.New(h).With("worker", i)
			for range 200 {
				log.Error("same")
				_ = h.Records()
			}
		})
	}
	all.Wait()
	if r := h.Records(); len(r) != 1 || r[0].Count != 1600 {
		t.Errorf("%+v", r)
	}
}

// TestNextHandlerIsServed: what is handed on is what slog asks of a handler.
func TestNextHandlerIsServed(t *testing.T) {
	var out bytes.Buffer
	slogtest.Run(t, func(*testing.T) slog.Handler {
		out.Reset()
		return NewRecentErrors(slog.NewJSONHandler(&out, nil), 4)
	}, func(t *testing.T) map[string]any {
		return parseJSON[map[string]any](t, out.String())
	})
}

func BenchmarkRecentErrors(b *testing.B) {
	log := slog.New(NewRecentErrors(slog.DiscardHandler, 50))
	b.ReportAllocs()
	for b.Loop() {
		log.Warn("request", "peer", "192.0.2.1:4433", "status", 400, "took", time.Millisecond)
	}
}
