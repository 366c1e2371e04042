package receiver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
)

func newUploads(t *testing.T, maxBody int64) (*Handler, *sink.Dir) {
	t.Helper()
	d, err := sink.OpenDir(t.TempDir(), sink.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return &Handler{Sink: d, MaxBody: maxBody, Metrics: NewMetrics(prometheus.NewRegistry())}, d
}

// TestUploadResumed is example 1 of the draft: a whole upload whose connection is
// lost, the offset, the rest.
func TestUploadResumed(t *testing.T) {
	h, _ := newUploads(t, 10<<20)
	url, roots := quicServer(t, h)
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	const arrived = 700_000

	first := quicClient(t, roots)
	cut := newCutBody(body[:arrived])
	supported := make(chan string, 1)
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
		supported <- h.Get("Location")
		return nil
	}})
	type result struct {
		a   answer
		err error
	}
	ended := make(chan result, 1)
	go func() {
		a, err := tryRequest(ctx, first, http.MethodPut, url+"/report", cut,
			"Upload-Complete", "?1", "Upload-Length", fmt.Sprint(len(body)), "Upload-Draft-Interop-Version", "8")
		ended <- result{a, err}
	}()
	location := <-supported // at once, while the body is on its way
	<-cut.sent
	// The first connection is there, and silent. To ask on a second one ends the
	// first request.
	tr := quicClient(t, roots)
	state := request(t, tr, http.MethodHead, url+location, nil)
	r := <-ended
	close(cut.cut)
	if r.err != nil || r.a.code != http.StatusConflict || r.a.header.Get("Upload-Complete") != "?0" || len(r.a.interim) != 1 {
		t.Fatalf("the first request: %+v", r)
	}
	at := r.a.interim[0]
	if !strings.HasPrefix(location, "/.uploads/") || at.Get("Upload-Draft-Interop-Version") != "8" || !strings.Contains(at.Get("Upload-Limit"), "max-size=10485760, max-age=") {
		t.Fatalf("104 with %v", at)
	}
	if state.code != http.StatusNoContent || state.header.Get("Upload-Complete") != "?0" || state.header.Get("Cache-Control") != "no-store" ||
		state.header.Get("Upload-Length") != fmt.Sprint(len(body)) || !strings.Contains(state.header.Get("Upload-Limit"), "max-age=") {
		t.Fatalf("HEAD: %+v", state)
	}
	var offset int
	if _, err := fmt.Sscan(state.header.Get("Upload-Offset"), &offset); err != nil || offset > arrived {
		t.Fatalf("offset %d, %v", offset, err)
	}
	t.Logf("%d of %d bytes that were sent are kept", offset, arrived)
	a := request(t, tr, http.MethodPatch, url+location, bytes.NewReader(body[offset:]),
		"Upload-Complete", "?1", "Upload-Offset", fmt.Sprint(offset), "Content-Type", "application/partial-upload")
	var receipt sink.Receipt
	if err := json.Unmarshal([]byte(a.body), &receipt); err != nil || a.code != http.StatusCreated || a.header.Get("Upload-Complete") != "?1" || receipt.Bytes != int64(len(body)) {
		t.Fatalf("PATCH: %+v", a)
	}
	if a := request(t, tr, http.MethodGet, url+"/report", nil); a.body != string(body) {
		t.Fatalf("another body is stored: %d, %d bytes", a.code, len(a.body))
	}
	if a := request(t, tr, http.MethodHead, url+location, nil); a.code != http.StatusNoContent || a.header.Get("Upload-Complete") != "?1" {
		t.Fatalf("HEAD of what is complete: %+v", a)
	}
	for event, want := range map[string]float64{eventCreated: 1, eventResumed: 1, eventCompleted: 1} {
		if n := testutil.ToFloat64(h.Metrics.resumable.WithLabelValues(event)); n != want {
			t.Errorf("%v uploads %s, want %v", n, event, want)
		}
	}
}

// TestUploadClosedConnection has the client close its connection in the middle of
// the body: what had arrived is kept, to the last byte.
func TestUploadClosedConnection(t *testing.T) {
	h, _ := newUploads(t, 0)
	url, roots := quicServer(t, h)
	tr := quicClient(t, roots)
	created := request(t, tr, http.MethodPost, url+"/report", nil, "Upload-Complete", "?0")
	location := created.header.Get("Location")
	if created.code != http.StatusCreated || created.header.Get("Upload-Complete") != "?0" || location == "" || len(created.interim) != 0 {
		t.Fatalf("%+v", created)
	}
	leaver := quicClient(t, roots)
	cut := newCutBody(bytes.Repeat([]byte("x"), 200_000))
	ended := make(chan error, 1)
	go func() {
		_, err := tryRequest(t.Context(), leaver, http.MethodPatch, url+location, cut,
			"Upload-Complete", "?1", "Upload-Offset", "0", "Content-Type", "application/partial-upload")
		ended <- err
	}()
	<-cut.sent
	_ = leaver.Close()
	close(cut.cut)
	if err := <-ended; err == nil {
		t.Fatal("half a body was taken for whole")
	}
	a := request(t, tr, http.MethodHead, url+location, nil)
	var offset int64
	if _, err := fmt.Sscan(a.header.Get("Upload-Offset"), &offset); err != nil || offset > 200_000 || a.header.Get("Upload-Complete") != "?0" {
		t.Fatalf("%+v", a)
	}
	t.Logf("%d of 200000 bytes are kept", offset)
}

// TestUploadParts is example 2 of the draft: parts of a stream of unknown length.
func TestUploadParts(t *testing.T) {
	h, _ := newUploads(t, 1000)
	url, roots := quicServer(t, h)
	tr := quicClient(t, roots)
	a := request(t, tr, http.MethodPut, url+"/report", strings.NewReader("one "), "Upload-Complete", "?0", "Upload-Draft-Interop-Version", "8")
	location := a.header.Get("Location")
	if a.code != http.StatusCreated || len(a.interim) != 1 || a.interim[0].Get("Location") != location || a.header.Get("Upload-Offset") != "4" {
		t.Fatalf("%+v", a)
	}
	if a := request(t, tr, http.MethodGet, url+"/report", nil); a.code != http.StatusNotFound {
		t.Fatalf("a part is served: %+v", a)
	}
	patch := func(body, offset, complete string) answer {
		t.Helper()
		return request(t, tr, http.MethodPatch, url+location, strings.NewReader(body), "Upload-Complete", complete, "Upload-Offset", offset, "Content-Type", "application/partial-upload")
	}
	if a := patch("two ", "4", "?0"); a.code != http.StatusNoContent || a.header.Get("Upload-Complete") != "?0" || a.header.Get("Upload-Offset") != "8" {
		t.Fatalf("%+v", a)
	}
	a = patch("again", "4", "?0")
	var problem map[string]any
	if err := json.Unmarshal([]byte(a.body), &problem); err != nil || a.code != http.StatusConflict || a.header.Get("Content-Type") != "application/problem+json" ||
		a.header.Get("Upload-Offset") != "8" || a.header.Get("Upload-Complete") != "?0" || problem["type"] != problemOffset || problem["expected-offset"] != 8.0 || problem["provided-offset"] != 4.0 {
		t.Fatalf("a wrong offset: %+v", a)
	}
	if a := patch("three", "8", "?1"); a.code != http.StatusCreated || a.header.Get("Upload-Complete") != "?1" {
		t.Fatalf("%+v", a)
	}
	if a := request(t, tr, http.MethodGet, url+"/report", nil); a.body != "one two three" {
		t.Fatalf("%+v", a)
	}
	if a := patch("", "13", "?1"); a.code != http.StatusCreated || !strings.Contains(a.body, `"bytes":13`) {
		t.Fatalf("the answer once more: %+v", a)
	}
	if a := patch("more", "13", "?1"); a.code != http.StatusConflict {
		t.Fatalf("more for what is complete: %+v", a)
	}
}

// TestUploadRefused has what a client gets wrong.
func TestUploadRefused(t *testing.T) {
	h, _ := newUploads(t, 1000)
	send := func(method, target, body string, header ...string) *httptest.ResponseRecorder {
		t.Helper()
		r := httptest.NewRequest(method, target, strings.NewReader(body))
		for i := 0; i < len(header); i += 2 {
			r.Header.Add(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	create := func() string {
		t.Helper()
		w := send(http.MethodPut, "/report", "", "Upload-Complete", "?0", "Upload-Length", "10")
		if w.Code != http.StatusCreated {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		return w.Header().Get("Location")
	}
	at := create()
	const kind = "application/partial-upload"
	for _, tc := range []struct {
		name, method, target, body string
		header                     []string
		code                       int
		part                       string // of the answer's body
	}{
		{"unknown upload", http.MethodHead, "/.uploads/" + strings.Repeat("0", 32), "", nil, 404, ""},
		{"no ID", http.MethodHead, "/.uploads/", "", nil, 404, ""},
		{"out of the folder", http.MethodPatch, "/.uploads/..%2freport", "x", []string{"Upload-Offset", "0", "Upload-Complete", "?1", "Content-Type", kind}, 404, ""},
		{"another media type", http.MethodPatch, at, "x", []string{"Upload-Offset", "0", "Upload-Complete", "?1", "Content-Type", "text/plain"}, 415, kind},
		{"no offset", http.MethodPatch, at, "x", []string{"Upload-Complete", "?1", "Content-Type", kind}, 400, "Upload-Offset"},
		{"a bad offset", http.MethodPatch, at, "x", []string{"Upload-Offset", "-1", "Upload-Complete", "?1", "Content-Type", kind}, 400, "Upload-Offset"},
		{"no completeness", http.MethodPatch, at, "x", []string{"Upload-Offset", "0", "Content-Type", kind}, 400, "Upload-Complete"},
		{"a gap", http.MethodPatch, at, "x", []string{"Upload-Offset", "5", "Upload-Complete", "?0", "Content-Type", kind}, 409, problemOffset},
		{"another length", http.MethodPatch, at, "x", []string{"Upload-Offset", "0", "Upload-Complete", "?0", "Upload-Length", "11", "Content-Type", kind}, 400, problemLength},
		{"two lengths", http.MethodPut, "/report", "x", []string{"Upload-Complete", "?1", "Upload-Length", "2", "Upload-Draft-Interop-Version", "8"}, 400, problemLength},
		{"announced too long", http.MethodPut, "/report", "", []string{"Upload-Complete", "?0", "Upload-Length", "1001"}, 413, ""},
		{"too long in sum", http.MethodPatch, at, "x", []string{"Upload-Offset", "1000", "Upload-Complete", "?0", "Content-Type", kind}, 413, ""},
		{"a bad name", http.MethodPut, "/a/b", "", []string{"Upload-Complete", "?0"}, 400, "path separator"},
		{"another method", http.MethodPost, at, "x", nil, 405, ""},
	} {
		w := send(tc.method, tc.target, tc.body, tc.header...)
		if w.Code != tc.code || !strings.Contains(w.Body.String(), tc.part) {
			t.Errorf("%s: %d %s", tc.name, w.Code, w.Body)
		}
		if w.Code == http.StatusRequestEntityTooLarge && !strings.Contains(w.Header().Get("Upload-Limit"), "max-size=1000") {
			t.Errorf("%s: no limit is told: %v", tc.name, w.Header())
		}
	}
	if w := send(http.MethodHead, at, ""); w.Header().Get("Upload-Offset") != "0" || w.Header().Get("Upload-Length") != "10" {
		t.Errorf("the upload is not as it was: %v", w.Header())
	}
	if w := send(http.MethodPatch, at, "far more than ten bytes", "Upload-Offset", "0", "Upload-Complete", "?0", "Content-Type", kind); w.Code != 400 {
		t.Errorf("longer than announced: %d %s", w.Code, w.Body)
	}
	if w := send(http.MethodHead, at, ""); w.Code != 404 {
		t.Errorf("an upload of an impossible length: %d", w.Code)
	}
	at = create()
	if w := send(http.MethodDelete, at, ""); w.Code != 204 {
		t.Errorf("delete: %d %s", w.Code, w.Body)
	}
	if w := send(http.MethodHead, at, ""); w.Code != 404 {
		t.Errorf("after delete: %d", w.Code)
	}
	for _, target := range []string{"/report", "/.uploads/x", "*"} {
		r := httptest.NewRequest(http.MethodOptions, "/", nil)
		r.URL.Path = target
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 204 || w.Header().Get("Upload-Limit") != "max-size=1000" || w.Header().Get("Allow") == "" {
			t.Errorf("OPTIONS %s: %d %v", target, w.Code, w.Header())
		}
	}
}

// TestUploadWithoutDraft has requests that must behave as if nothing could be
// continued: another draft, another value, another sink.
func TestUploadWithoutDraft(t *testing.T) {
	h, _ := newUploads(t, 0)
	plain := &Handler{Sink: struct{ sink.Sink }{h.Sink}}
	for _, tc := range []struct {
		h      *Handler
		header []string
	}{
		{h, nil},
		{h, []string{"Upload-Complete", "?1"}},
		{h, []string{"Upload-Complete", "?1", "Upload-Draft-Interop-Version", "3"}},
		{h, []string{"Upload-Complete", "yes", "Upload-Draft-Interop-Version", "8"}},
		{plain, []string{"Upload-Complete", "?1", "Upload-Draft-Interop-Version", "8"}},
	} {
		url, roots := quicServer(t, tc.h)
		tr := quicClient(t, roots)
		a := request(t, tr, http.MethodPut, url+"/report", strings.NewReader("whole"), tc.header...)
		if a.code != http.StatusCreated || len(a.interim) != 0 || a.header.Get("Upload-Complete") != "" || a.header.Get("Location") != "" {
			t.Errorf("%v: %+v", tc.header, a)
		}
	}
	if n := testutil.ToFloat64(h.Metrics.resumable.WithLabelValues(eventCreated)); n != 0 {
		t.Errorf("%v uploads were created", n)
	}
	w := do(plain, http.MethodHead, "/.uploads/"+strings.Repeat("0", 32), nil)
	if w.Code != http.StatusNotFound {
		t.Errorf("an upload of a sink that keeps none: %d", w.Code)
	}
	if w := do(plain, http.MethodGet, "/report", nil); w.Code != http.StatusMethodNotAllowed || strings.Contains(w.Header().Get("Allow"), "GET") {
		t.Errorf("GET from a sink that gives nothing back: %d %v", w.Code, w.Header())
	}
}

// TestUploadLimit has no room for one more upload: a whole body is stored all
// the same, and one in parts is told to come again.
func TestUploadLimit(t *testing.T) {
	d, err := sink.OpenDir(t.TempDir(), sink.Options{Resume: sink.ResumeLimits{MaxUploads: 1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	url, roots := quicServer(t, &Handler{Sink: d})
	tr := quicClient(t, roots)
	if a := request(t, tr, http.MethodPut, url+"/a", nil, "Upload-Complete", "?0"); a.code != http.StatusCreated {
		t.Fatalf("%+v", a)
	}
	if a := request(t, tr, http.MethodPut, url+"/b", nil, "Upload-Complete", "?0"); a.code != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Fatalf("%+v", a)
	}
	a := request(t, tr, http.MethodPut, url+"/c", strings.NewReader("whole"), "Upload-Complete", "?1", "Upload-Draft-Interop-Version", "8")
	if a.code != http.StatusCreated || len(a.interim) != 0 {
		t.Fatalf("%+v", a)
	}
}
