// Package receiver is the handler of `tailfin serve`: it stores what is put or
// posted, and gives it back.
//
//	PUT, POST /NAME   store the body; 201 with a receipt in JSON
//	GET, HEAD /NAME   what is stored
//	GET /bytes/N      N bytes, where byte i is (i*7 + (i>>8)) & 255
//	POST /echo        the body
package receiver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
)

// MaxPattern bounds N of GET /bytes/N.
const MaxPattern = 64 << 30

// A Handler is the receiver over one sink.
type Handler struct {
	Sink sink.Sink
	// MaxBody bounds a stored body in bytes; 413 answers a longer one.
	MaxBody int64
	// Log gets one line a request.
	Log *slog.Logger
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	rec := &statusWriter{ResponseWriter: w}
	note := h.route(rec, r)
	if rec.status == 0 {
		rec.status = http.StatusOK
	}
	attrs := []any{"peer", r.RemoteAddr, "method", r.Method, "path", r.URL.Path,
		"status", rec.status, "sent", rec.sent, "ms", time.Since(start).Milliseconds()}
	switch {
	case note.err != nil:
		h.Log.Warn("request", append(attrs, "err", note.err.Error())...)
	case note.stored > 0:
		h.Log.Info("request", append(attrs, "stored", note.stored)...)
	default:
		h.Log.Info("request", attrs...)
	}
}

// note is what the log line of a request says beyond its status.
type note struct {
	stored int64
	err    error
}

func (h *Handler) route(w http.ResponseWriter, r *http.Request) note {
	name := strings.TrimPrefix(r.URL.Path, "/")
	switch r.Method {
	case http.MethodPut, http.MethodPost:
		if r.Method == http.MethodPost && name == "echo" {
			return echo(w, r)
		}
		return h.store(w, r, name)
	case http.MethodGet, http.MethodHead:
		if n, ok := strings.CutPrefix(name, "bytes/"); ok {
			return pattern(w, r, n)
		}
		return h.fetch(w, r, name)
	}
	w.Header().Set("Allow", "GET, HEAD, POST, PUT")
	http.Error(w, "use PUT or POST /NAME to store, GET /NAME to fetch", http.StatusMethodNotAllowed)
	return note{}
}

func (h *Handler) store(w http.ResponseWriter, r *http.Request, name string) note {
	if h.MaxBody > 0 && r.ContentLength > h.MaxBody {
		return fail(w, http.StatusRequestEntityTooLarge, fmt.Errorf("body of %d bytes; at most %d are taken (--max-body)", r.ContentLength, h.MaxBody))
	}
	body := io.Reader(r.Body)
	if h.MaxBody > 0 {
		body = http.MaxBytesReader(w, r.Body, h.MaxBody)
	}
	receipt, err := h.Sink.Store(name, body)
	if err != nil {
		return fail(w, storeStatus(err), err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	// A client that has left gets no receipt; what it sent is stored.
	_ = json.NewEncoder(w).Encode(receipt)
	return note{stored: receipt.Bytes}
}

// storeStatus is the answer to a body that was not stored.
func storeStatus(err error) int {
	var (
		badName *sink.NameError
		tooLong *http.MaxBytesError
	)
	switch {
	case errors.As(err, &badName):
		return http.StatusBadRequest
	case errors.As(err, &tooLong):
		return http.StatusRequestEntityTooLarge
	case sink.IsFull(err):
		return http.StatusInsufficientStorage
	case isBodyError(err):
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}

func (h *Handler) fetch(w http.ResponseWriter, r *http.Request, name string) note {
	obj, err := h.Sink.Open(name)
	var badName *sink.NameError
	switch {
	case errors.As(err, &badName):
		return fail(w, http.StatusBadRequest, err)
	case err != nil && sink.IsNotFound(err):
		http.Error(w, fmt.Sprintf("nothing is stored under %q", name), http.StatusNotFound)
		return note{}
	case err != nil:
		return fail(w, http.StatusInternalServerError, err)
	}
	defer func() { _ = obj.Close() }()
	// What is stored came from the network and is nobody's web page.
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, name, obj.Modified, obj)
	return note{}
}

func echo(w http.ResponseWriter, r *http.Request) note {
	w.Header().Set("Content-Type", "application/octet-stream")
	if r.ContentLength >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	}
	if _, err := io.Copy(w, r.Body); err != nil {
		return note{err: err}
	}
	return note{}
}

// pattern sends n bytes that a client can check without having them.
func pattern(w http.ResponseWriter, r *http.Request, text string) note {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > MaxPattern {
		return fail(w, http.StatusBadRequest, fmt.Errorf("/bytes/%s: give a number of bytes from 0 to %d", text, int64(MaxPattern)))
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	if r.Method == http.MethodHead {
		return note{}
	}
	buf := make([]byte, min(n, 64<<10))
	for off := int64(0); off < n; off += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), n-off)]
		FillPattern(buf, off)
		if _, err := w.Write(buf); err != nil {
			return note{err: err}
		}
	}
	return note{}
}

// FillPattern sets p to the bytes of GET /bytes/N from offset on.
func FillPattern(p []byte, offset int64) {
	for i := range p {
		at := offset + int64(i)
		p[i] = byte(at*7 + at>>8)
	}
}

// fail answers with a status and the reason. What went wrong on our side is
// for the log; the client gets no paths of this machine.
func fail(w http.ResponseWriter, status int, err error) note {
	reason := err.Error()
	switch {
	case status == http.StatusInsufficientStorage:
		reason = "the receiver's storage is full or read-only; nothing was stored"
	case status >= http.StatusInternalServerError:
		reason = "the receiver could not store or read this; its log says why"
	}
	http.Error(w, reason, status)
	return note{err: err}
}

// statusWriter remembers the status and the body bytes of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
	sent   int64
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.sent += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// isBodyError tells a body that the client cut short from a sink that failed.
func isBodyError(err error) bool {
	_, ok := tailfin.ProgressOf(err)
	return ok || errors.Is(err, context.Canceled)
}
