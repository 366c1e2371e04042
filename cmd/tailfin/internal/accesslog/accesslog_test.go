package accesslog

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestLines(t *testing.T) {
	var out bytes.Buffer
	reg := prometheus.NewRegistry()
	l := New(slog.New(slog.NewTextHandler(&out, nil)), reg)
	h := l.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		Add(r.Context(), slog.Int("stored", 5))
		switch r.URL.Path {
		case "/cut":
			Fail(r.Context(), errors.New("cut short"))
			Fail(r.Context(), errors.New("what came of it"))
			w.WriteHeader(http.StatusBadRequest)
		case "/broken":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/silent":
		default:
			_, _ = io.Copy(w, r.Body)
		}
	}))
	line := func(mode Mode, method, path string) string {
		out.Reset()
		l.SetMode(mode)
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, path, strings.NewReader("hello")))
		return out.String()
	}
	for _, tc := range []struct {
		mode         Mode
		method, path string
		want         []string // none for no line
	}{
		{All, "PUT", "/ok", []string{"level=INFO", "method=PUT", "path=/ok", "status=200", "sent=5", "stored=5", "peer=192.0.2.1"}},
		{All, "PUT", "/silent", []string{"status=200", "sent=0"}},
		{All, "PUT", "/cut", []string{"level=WARN", "status=400", `err="cut short"`}},
		{Errors, "PUT", "/ok", nil},
		{Errors, "PUT", "/cut", []string{"status=400"}},
		{Errors, "PUT", "/broken", []string{"status=503"}},
		{Off, "PUT", "/cut", nil},
		{All, "BREW", "/ok", []string{"method=BREW"}},
	} {
		got := line(tc.mode, tc.method, tc.path)
		if n := strings.Count(got, "\n"); tc.want == nil && n != 0 || tc.want != nil && n != 1 {
			t.Errorf("%d %s: %d lines: %s", tc.mode, tc.path, n, got)
		}
		for _, part := range tc.want {
			if !strings.Contains(got, part) {
				t.Errorf("%d %s: no %s in %s", tc.mode, tc.path, part, got)
			}
		}
	}
	for labels, want := range map[[2]string]float64{{"PUT", "200"}: 3, {"PUT", "400"}: 3, {"PUT", "503"}: 1, {"other", "200"}: 1} {
		if got := testutil.ToFloat64(l.requests.WithLabelValues(labels[0], labels[1])); got != want {
			t.Errorf("%v requests of %v, want %v", got, labels, want)
		}
	}
	if got := testutil.ToFloat64(l.received); got != 15 {
		t.Errorf("%v bytes received, want 15", got)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// TestPanic has a handler that panics: it is counted and logged all the same.
func TestPanic(t *testing.T) {
	var out bytes.Buffer
	h := New(slog.New(slog.NewTextHandler(&out, nil)), nil).Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		panic(http.ErrAbortHandler)
	}))
	defer func() {
		if recover() == nil {
			t.Error("the panic is gone")
		}
		if !strings.Contains(out.String(), "path=/x") || !strings.Contains(out.String(), "cut off") {
			t.Errorf("no line: %q", &out)
		}
	}()
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/x", nil))
}
