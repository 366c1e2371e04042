package receiver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/accesslog"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
)

func newHandler(t *testing.T) *Handler {
	t.Helper()
	d, err := sink.OpenDir(t.TempDir(), sink.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return &Handler{Sink: d, MaxBody: 1000}
}

func do(h http.Handler, method, target string, body io.Reader) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, target, body))
	return w
}

func TestStoreAndFetch(t *testing.T) {
	h := newHandler(t)
	for _, method := range []string{http.MethodPut, http.MethodPost} {
		w := do(h, method, "/report", strings.NewReader(method))
		var receipt sink.Receipt
		if err := json.Unmarshal(w.Body.Bytes(), &receipt); err != nil || w.Code != http.StatusCreated || receipt.Bytes != int64(len(method)) {
			t.Fatalf("%s: %d %s", method, w.Code, w.Body)
		}
		if w := do(h, http.MethodGet, "/report", nil); w.Code != http.StatusOK || w.Body.String() != method {
			t.Fatalf("GET: %d %q", w.Code, w.Body)
		}
	}
	r := httptest.NewRequest(http.MethodGet, "/report", nil)
	r.Header.Set("Range", "bytes=1-2")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusPartialContent || w.Body.String() != "OS" {
		t.Fatalf("range: %d %q", w.Code, w.Body)
	}
}

func TestStatuses(t *testing.T) {
	h := newHandler(t)
	for _, tc := range []struct {
		method, target, body string
		code                 int
	}{
		{http.MethodGet, "/absent", "", http.StatusNotFound},
		{http.MethodHead, "/absent", "", http.StatusNotFound},
		{http.MethodGet, "/", "", http.StatusBadRequest},
		{http.MethodPut, "/..%2fx", "x", http.StatusBadRequest},
		{http.MethodPut, "/a/b", "x", http.StatusBadRequest},
		{http.MethodPut, "/long", strings.Repeat("x", 1001), http.StatusRequestEntityTooLarge},
		{http.MethodDelete, "/report", "", http.StatusMethodNotAllowed},
		{http.MethodGet, "/bytes/", "", http.StatusBadRequest},
		{http.MethodGet, "/bytes/-1", "", http.StatusBadRequest},
		{http.MethodGet, fmt.Sprintf("/bytes/%d", int64(MaxPattern)+1), "", http.StatusBadRequest},
		{http.MethodGet, "/bytes/99999999999999999999", "", http.StatusBadRequest},
	} {
		if w := do(h, tc.method, tc.target, strings.NewReader(tc.body)); w.Code != tc.code {
			t.Errorf("%s %s: %d %s, want %d", tc.method, tc.target, w.Code, w.Body, tc.code)
		}
	}
	// Without a Content-Length the limit is met on the way.
	w := do(h, http.MethodPut, "/long", io.MultiReader(strings.NewReader(strings.Repeat("x", 1001))))
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a body of unknown length: %d", w.Code)
	}
	if w := do(h, http.MethodGet, "/long", nil); w.Code != http.StatusNotFound {
		t.Errorf("a body that was too long was stored: %d", w.Code)
	}
}

func TestPatternAndEcho(t *testing.T) {
	h := newHandler(t)
	for _, n := range []int{0, 1, 70_000} {
		w := do(h, http.MethodGet, fmt.Sprintf("/bytes/%d", n), nil)
		if w.Code != http.StatusOK || w.Body.Len() != n {
			t.Fatalf("%d bytes: %d, %d bytes", n, w.Code, w.Body.Len())
		}
		for i, b := range w.Body.Bytes() {
			if b != byte((i*7+(i>>8))&255) {
				t.Fatalf("byte %d of %d is %d", i, n, b)
			}
		}
	}
	body := bytes.Repeat([]byte("echo"), 20_000)
	if w := do(h, http.MethodPost, "/echo", bytes.NewReader(body)); !bytes.Equal(w.Body.Bytes(), body) {
		t.Fatalf("echo of %d bytes: %d", len(body), w.Body.Len())
	}
}

// failingSink fails to store with an error.
type failingSink struct {
	sink.Sink
	err error
}

func (s failingSink) Store(context.Context, sink.Upload, io.Reader) (sink.Receipt, error) {
	return sink.Receipt{}, s.err
}

// TestStorageErrors wants for each kind of failure its status, its label and a line
// in the log, and no path of ours in the answer.
func TestStorageErrors(t *testing.T) {
	atPath := func(err error) error { return &os.PathError{Op: "write", Path: "/secret/path", Err: err} }
	for _, tc := range []struct {
		err    error
		code   int
		result string
	}{
		{atPath(syscall.ENOSPC), http.StatusInsufficientStorage, resultFull},
		{atPath(syscall.EDQUOT), http.StatusInsufficientStorage, resultFull},
		{atPath(syscall.EROFS), http.StatusInsufficientStorage, resultFull},
		{atPath(syscall.EIO), http.StatusInternalServerError, resultFailed},
		{&sink.UnavailableError{Sink: "dir:/secret", Err: atPath(syscall.EMFILE)}, http.StatusServiceUnavailable, resultUnavailable},
		{sink.ErrClosed, http.StatusServiceUnavailable, resultUnavailable},
		{sink.ErrTooMany, http.StatusServiceUnavailable, resultUnavailable},
		{&sink.NameError{Name: "x", Reason: "is bad"}, http.StatusBadRequest, resultBadName},
		{&sink.TooLongError{Limit: 1, Remedy: "set a folder"}, http.StatusRequestEntityTooLarge, resultTooLong},
		{&http.MaxBytesError{Limit: 1}, http.StatusRequestEntityTooLarge, resultTooLong},
		{&tailfin.Truncated{Got: 1, Want: 2, Err: io.ErrUnexpectedEOF}, http.StatusBadRequest, resultCut},
		{tailfin.ErrBodyClosed, http.StatusBadRequest, resultCut},
		{context.Canceled, http.StatusBadRequest, resultCut},
		{os.ErrDeadlineExceeded, http.StatusRequestTimeout, resultCut},
		{errors.Join(atPath(syscall.ENOSPC), atPath(syscall.EIO)), http.StatusInsufficientStorage, resultFull},
	} {
		var log bytes.Buffer
		receiver := &Handler{Sink: failingSink{err: tc.err}, Metrics: NewMetrics(nil)}
		h := accesslog.New(slog.New(slog.NewTextHandler(&log, nil)), nil).Handler(receiver)
		w := do(h, http.MethodPut, "/x", strings.NewReader("x"))
		if w.Code != tc.code {
			t.Errorf("%v: %d, want %d", tc.err, w.Code, tc.code)
		}
		if (w.Header().Get("Retry-After") != "") != (tc.code == http.StatusServiceUnavailable) {
			t.Errorf("%v: Retry-After %q with %d", tc.err, w.Header().Get("Retry-After"), tc.code)
		}
		if n := testutil.ToFloat64(receiver.Metrics.stores.WithLabelValues(tc.result)); n != 1 {
			t.Errorf("%v: not counted as %s", tc.err, tc.result)
		}
		if strings.Contains(w.Body.String(), "/secret") {
			t.Errorf("%v: the client is told our paths: %s", tc.err, w.Body)
		}
		if !strings.Contains(log.String(), "err=") {
			t.Errorf("%v: not in the log: %s", tc.err, &log)
		}
	}
}

// TestMetrics stores, and reads what is exported.
func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	h := newHandler(t)
	h.Metrics = NewMetrics(reg)
	for _, body := range []string{"one", "three"} {
		if w := do(h, http.MethodPut, "/x", strings.NewReader(body)); w.Code != http.StatusCreated {
			t.Fatal(w.Code)
		}
	}
	do(h, http.MethodPut, "/a/b", strings.NewReader("x"))
	err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP tailfin_sink_bytes_total Bytes of bodies that were stored.
# TYPE tailfin_sink_bytes_total counter
tailfin_sink_bytes_total 8
# HELP tailfin_sink_stores_total Requests to store a body, by result: stored, or why not.
# TYPE tailfin_sink_stores_total counter
tailfin_sink_stores_total{result="bad_name"} 1
tailfin_sink_stores_total{result="conflict"} 0
tailfin_sink_stores_total{result="cut"} 0
tailfin_sink_stores_total{result="failed"} 0
tailfin_sink_stores_total{result="full"} 0
tailfin_sink_stores_total{result="kept"} 0
tailfin_sink_stores_total{result="not_found"} 0
tailfin_sink_stores_total{result="stored"} 2
tailfin_sink_stores_total{result="too_long"} 0
tailfin_sink_stores_total{result="unavailable"} 0
`), "tailfin_sink_bytes_total", "tailfin_sink_stores_total")
	if err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(reg, "tailfin_sink_store_seconds"); err != nil || n != 1 {
		t.Error(n, err)
	}
}

func TestBrokenBody(t *testing.T) {
	h := newHandler(t)
	body := iotest.ErrReader(&tailfin.StreamReset{Code: 0x10c, Remote: true, Err: errors.New("reset")})
	if w := do(h, http.MethodPut, "/x", body); w.Code != http.StatusBadRequest {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
}
