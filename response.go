package tailfin

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// sniffLen is how much of a body http.DetectContentType looks at.
const sniffLen = 512

// A responseWriter answers one request, by the rules of net/http.
type responseWriter struct {
	mu     sync.Mutex
	str    sendStream
	header http.Header
	isHead bool // a HEAD request: the body is counted and not sent

	status  int   // of the final header section; 0 until WriteHeader
	sent    bool  // the final header section was queued for sending
	want    int64 // the declared Content-Length, -1 if there is none
	written int64 // body bytes
	trailer []string
	err     error // of the stream, sticky
}

var (
	_ http.ResponseWriter = (*responseWriter)(nil)
	_ http.Flusher        = (*responseWriter)(nil)
)

func newResponseWriter(str *quic.Stream, isHead bool) *responseWriter {
	return &responseWriter{str: sendStream{quic: str}, header: make(http.Header), isHead: isHead, want: -1}
}

func (w *responseWriter) Header() http.Header { return w.header }

// WriteHeader sets the status. A status of 1xx but 101 is sent at once and may
// be followed by others (RFC 9114 §4.1).
func (w *responseWriter) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writeHeader(status)
}

func (w *responseWriter) writeHeader(status int) {
	if w.status != 0 || w.err != nil {
		return
	}
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		w.err = w.str.writeFields(h3frame.ResponseFields(h3frame.ResponseHead{Status: status, Header: w.header}))
		if w.err == nil {
			w.err = w.str.flush()
		}
		return
	}
	w.status = status
	if v := w.header.Get("Content-Length"); v != "" {
		if n, err := strconv.ParseInt(v, 10, 64); err == nil && n >= 0 {
			w.want = n
		} else {
			w.header.Del("Content-Length")
		}
	}
	w.trailer = w.trailer[:0]
	for _, line := range w.header.Values("Trailer") {
		for name := range strings.SplitSeq(line, ",") {
			w.trailer = append(w.trailer, http.CanonicalHeaderKey(strings.TrimSpace(name)))
		}
	}
}

// sendContinue answers "Expect: 100-continue" at the first read of the body.
func (w *responseWriter) sendContinue() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.status != 0 || w.err != nil {
		return
	}
	w.err = w.str.writeFields([]h3frame.Field{{Name: ":status", Value: "100"}})
	if w.err == nil {
		w.err = w.str.flush()
	}
}

// bodyAllowed tells whether a status may have a body (RFC 9110 §6.4.1).
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// Write sends body bytes. It returns http.ErrBodyNotAllowed and
// http.ErrContentLength like net/http, and the error of the stream after the
// client has gone.
func (w *responseWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.status == 0 {
		w.writeHeader(http.StatusOK)
	}
	if w.err != nil {
		return 0, w.err
	}
	if !bodyAllowed(w.status) {
		return 0, http.ErrBodyNotAllowed
	}
	if w.want >= 0 && w.written+int64(len(p)) > w.want {
		return 0, http.ErrContentLength
	}
	w.written += int64(len(p))
	if w.isHead {
		return len(p), nil
	}
	if !w.sent {
		// Gather first: a whole small body gets a Content-Length, see finish.
		if len(w.str.body)+len(p) <= writeBuffer {
			return len(p), w.str.writeBody(p)
		}
		w.sendHead(p)
	}
	if err := w.str.writeBody(p); err != nil {
		w.err = err
		return 0, err
	}
	return len(p), nil
}

// sendHead queues the final header section ahead of the gathered body. more is
// what is about to follow that body.
func (w *responseWriter) sendHead(more []byte) {
	w.sent = true
	if _, ok := w.header["Content-Type"]; !ok && bodyAllowed(w.status) && w.written > 0 && w.header.Get("Content-Encoding") == "" {
		sample := w.str.body
		if len(sample) < sniffLen {
			sample = append(sample[:len(sample):len(sample)], more[:min(len(more), sniffLen)]...)
		}
		if len(sample) > 0 {
			w.header.Set("Content-Type", http.DetectContentType(sample))
		}
	}
	if _, ok := w.header["Date"]; !ok {
		w.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	}
	fields := h3frame.ResponseFields(h3frame.ResponseHead{Status: w.status, Header: w.headerWithoutTrailers()})
	w.str.head = h3frame.AppendHeaders(w.str.head, h3frame.AppendFieldSection(nil, fields))
}

// headerWithoutTrailers is the header section without what is sent after the
// body: fields under http.TrailerPrefix and those announced by Trailer.
func (w *responseWriter) headerWithoutTrailers() http.Header {
	h := w.header.Clone()
	for name := range h {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			delete(h, name)
		}
	}
	for _, name := range w.trailer {
		delete(h, name)
	}
	return h
}

// Flush sends what was written so far.
func (w *responseWriter) Flush() { _ = w.FlushError() }

// FlushError is Flush for http.ResponseController.
func (w *responseWriter) FlushError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.status == 0 {
		w.writeHeader(http.StatusOK)
	}
	if w.err != nil {
		return w.err
	}
	if !w.sent {
		w.sendHead(nil)
	}
	w.err = w.str.flush()
	return w.err
}

// finish sends what is left of the answer, and the FIN.
func (w *responseWriter) finish() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.status == 0 {
		w.writeHeader(http.StatusOK)
	}
	if w.err != nil {
		return w.err
	}
	if !w.sent {
		if w.want < 0 && bodyAllowed(w.status) && (!w.isHead || w.written > 0) {
			w.header.Set("Content-Length", strconv.FormatInt(w.written, 10))
		}
		w.sendHead(nil)
	}
	if w.want >= 0 && w.written < w.want && !w.isHead && bodyAllowed(w.status) {
		// The client must not take what it got for the whole (RFC 9114 §4.1.2).
		w.str.quic.CancelWrite(quic.StreamErrorCode(h3frame.ErrCodeInternal))
		w.err = fmt.Errorf("tailfin: handler wrote %d of %d bytes it declared", w.written, w.want)
		return w.err
	}
	if fields := w.trailerFields(); len(fields) > 0 {
		if w.err = w.str.writeFields(fields); w.err != nil {
			return w.err
		}
	}
	w.err = w.str.close()
	if w.err == nil {
		w.err = errHandlerReturned
		return nil
	}
	return w.err
}

// errHandlerReturned meets a handler that writes after it returned.
var errHandlerReturned = errors.New("tailfin: write after the handler returned")

// trailerFields collects the trailer section (http.TrailerPrefix, Trailer).
func (w *responseWriter) trailerFields() []h3frame.Field {
	var fields []h3frame.Field
	add := func(name string, values []string) {
		for _, v := range values {
			fields = append(fields, h3frame.Field{Name: strings.ToLower(name), Value: v})
		}
	}
	for name, values := range w.header {
		if bare, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			add(bare, values)
		}
	}
	for _, name := range w.trailer {
		add(name, w.header[name])
	}
	return fields
}
