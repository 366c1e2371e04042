// Package receiver is the handler of `tailfin serve`: it stores what is put or
// posted, and gives it back.
//
//	PUT, POST /NAME   store the body; 201 with a receipt in JSON
//	GET, HEAD /NAME   what is stored, also in ranges
//	GET /bytes/N      N bytes, where byte i is (i*7 + (i>>8)) & 255
//	POST /echo        the body
//	/.uploads/ID      an upload that can be continued; see uploads.go
package receiver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/accesslog"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
)

// A Handler is the receiver over one sink.
type Handler struct {
	Sink sink.Sink
	// MaxBody bounds a stored body in bytes; 413 answers a longer one.
	MaxBody int64
	// Metrics count what is stored. Nil counts nothing.
	Metrics *Metrics
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	if id, ok := strings.CutPrefix(name, uploadsPath); ok {
		h.upload(w, r, id)
		return
	}
	switch r.Method {
	case http.MethodPut, http.MethodPost:
		if r.Method == http.MethodPost && name == "echo" {
			echo(w, r)
			return
		}
		h.store(w, r, name)
	case http.MethodGet, http.MethodHead:
		if n, ok := strings.CutPrefix(name, "bytes/"); ok {
			pattern(w, r, n)
			return
		}
		h.fetch(w, r, name)
	case http.MethodOptions:
		h.options(w)
	default:
		w.Header().Set("Allow", h.allowed())
		http.Error(w, "use PUT or POST /NAME to store, GET /NAME to fetch", http.StatusMethodNotAllowed)
	}
}

// allowed are the methods for what is stored.
func (h *Handler) allowed() string {
	if _, ok := h.Sink.(sink.Fetcher); ok {
		return "GET, HEAD, OPTIONS, POST, PUT"
	}
	return "OPTIONS, POST, PUT"
}

func (h *Handler) store(w http.ResponseWriter, r *http.Request, name string) {
	if err := h.tooLong(r.ContentLength); err != nil {
		h.notStored(w, r, err)
		return
	}
	if h.storeResumable(w, r, name) {
		return
	}
	start := time.Now()
	receipt, err := h.Sink.Store(r.Context(), newUpload(r, name, start), h.body(w, r, 0))
	if err != nil {
		h.notStored(w, r, err)
		return
	}
	h.stored(w, r, receipt, start)
}

func newUpload(r *http.Request, name string, now time.Time) sink.Upload {
	return sink.Upload{
		Name: name, Time: now, Peer: r.RemoteAddr, Method: r.Method, Host: r.Host,
		Path: r.URL.RequestURI(), Header: r.Header, Length: r.ContentLength,
	}
}

// stored answers a body that is.
func (h *Handler) stored(w http.ResponseWriter, r *http.Request, receipt sink.Receipt, start time.Time) {
	h.Metrics.stored(receipt.Bytes, start)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	// A client that has left gets no receipt; what it sent is stored.
	_ = json.NewEncoder(w).Encode(receipt)
	accesslog.Add(r.Context(), slog.Int64("stored", receipt.Bytes))
}

// tooLong tells whether an upload of length bytes, -1 for any, is more than is taken.
func (h *Handler) tooLong(length int64) error {
	if h.MaxBody > 0 && length > h.MaxBody {
		return fmt.Errorf("body of %d bytes; at most %d are taken (--max-body): %w", length, h.MaxBody, &http.MaxBytesError{Limit: h.MaxBody})
	}
	return nil
}

// body is that of a request, which continues an upload at offset.
func (h *Handler) body(w http.ResponseWriter, r *http.Request, offset int64) io.ReadCloser {
	if h.MaxBody <= 0 {
		return r.Body
	}
	return http.MaxBytesReader(w, r.Body, max(0, h.MaxBody-offset))
}

func (h *Handler) fetch(w http.ResponseWriter, r *http.Request, name string) {
	stored, ok := h.Sink.(sink.Fetcher)
	if !ok {
		w.Header().Set("Allow", h.allowed())
		fail(w, r, http.StatusMethodNotAllowed, errors.New("this receiver stores and does not give back"))
		return
	}
	obj, err := stored.Open(r.Context(), name)
	var (
		badName     *sink.NameError
		unavailable *sink.UnavailableError
	)
	switch {
	case errors.As(err, &badName):
		fail(w, r, http.StatusBadRequest, err)
		return
	case errors.As(err, &unavailable):
		fail(w, r, http.StatusServiceUnavailable, err)
		return
	case err != nil && sink.IsNotFound(err):
		http.Error(w, fmt.Sprintf("nothing is stored under %q", name), http.StatusNotFound)
		return
	case err != nil:
		fail(w, r, openStatus(err), err)
		return
	}
	defer func() { _ = obj.Close() }()
	// What is stored came from the network and is nobody's web page.
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if obj.ETag != "" {
		w.Header().Set("ETag", obj.ETag) // for If-Range, by which a client goes on where it was cut off
	}
	http.ServeContent(w, r, name, obj.Modified, obj)
}
