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
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/accesslog"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
)

// MaxPattern bounds N of GET /bytes/N.
const MaxPattern = 64 << 30

// A Handler is the receiver over one sink.
type Handler struct {
	Sink sink.Sink
	// MaxBody bounds a stored body in bytes; 413 answers a longer one.
	MaxBody int64
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
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
	default:
		w.Header().Set("Allow", "GET, HEAD, POST, PUT")
		http.Error(w, "use PUT or POST /NAME to store, GET /NAME to fetch", http.StatusMethodNotAllowed)
	}
}

func (h *Handler) store(w http.ResponseWriter, r *http.Request, name string) {
	if h.MaxBody > 0 && r.ContentLength > h.MaxBody {
		fail(w, r, http.StatusRequestEntityTooLarge, fmt.Errorf("body of %d bytes; at most %d are taken (--max-body)", r.ContentLength, h.MaxBody))
		return
	}
	body := io.Reader(r.Body)
	if h.MaxBody > 0 {
		body = http.MaxBytesReader(w, r.Body, h.MaxBody)
	}
	receipt, err := h.Sink.Store(r.Context(), sink.Upload{
		Name: name, Time: time.Now(), Peer: r.RemoteAddr, Method: r.Method, Host: r.Host,
		Path: r.URL.RequestURI(), Header: r.Header, Length: r.ContentLength,
	}, body)
	if err != nil {
		fail(w, r, storeStatus(err), err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	// A client that has left gets no receipt; what it sent is stored.
	_ = json.NewEncoder(w).Encode(receipt)
	accesslog.Add(r.Context(), slog.Int64("stored", receipt.Bytes))
}

// storeStatus is the answer to a body that was not stored.
func storeStatus(err error) int {
	var (
		badName     *sink.NameError
		tooLong     *http.MaxBytesError
		unavailable *sink.UnavailableError
	)
	switch {
	case errors.As(err, &badName):
		return http.StatusBadRequest
	case errors.As(err, &tooLong):
		return http.StatusRequestEntityTooLarge
	case sink.IsFull(err):
		return http.StatusInsufficientStorage
	case errors.As(err, &unavailable):
		return http.StatusServiceUnavailable
	case isBodyError(err):
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}

func (h *Handler) fetch(w http.ResponseWriter, r *http.Request, name string) {
	stored, ok := h.Sink.(sink.Fetcher)
	if !ok {
		fail(w, r, http.StatusNotFound, errors.New("this sink stores and does not give back"))
		return
	}
	obj, err := stored.Open(r.Context(), name)
	var badName *sink.NameError
	switch {
	case errors.As(err, &badName):
		fail(w, r, http.StatusBadRequest, err)
		return
	case err != nil && sink.IsNotFound(err):
		http.Error(w, fmt.Sprintf("nothing is stored under %q", name), http.StatusNotFound)
		return
	case err != nil:
		fail(w, r, http.StatusInternalServerError, err)
		return
	}
	defer func() { _ = obj.Close() }()
	// What is stored came from the network and is nobody's web page.
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, name, obj.Modified, obj)
}

func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	if r.ContentLength >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	}
	if _, err := io.Copy(w, r.Body); err != nil {
		accesslog.Fail(r.Context(), err)
	}
}

// pattern sends n bytes that a client can check without having them.
func pattern(w http.ResponseWriter, r *http.Request, text string) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > MaxPattern {
		fail(w, r, http.StatusBadRequest, fmt.Errorf("/bytes/%s: give a number of bytes from 0 to %d", text, int64(MaxPattern)))
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	if r.Method == http.MethodHead {
		return
	}
	buf := make([]byte, min(n, 64<<10))
	for off := int64(0); off < n; off += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), n-off)]
		FillPattern(buf, off)
		if _, err := w.Write(buf); err != nil {
			accesslog.Fail(r.Context(), err)
			return
		}
	}
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
func fail(w http.ResponseWriter, r *http.Request, status int, err error) {
	reason := err.Error()
	switch {
	case status == http.StatusInsufficientStorage:
		reason = "the receiver's storage is full or read-only; nothing was stored"
	case status >= http.StatusInternalServerError:
		reason = "the receiver could not store or read this; its log says why"
	}
	http.Error(w, reason, status)
	accesslog.Fail(r.Context(), err)
}

// isBodyError tells a body that the client cut short from a sink that failed.
func isBodyError(err error) bool {
	_, ok := tailfin.ProgressOf(err)
	return ok || errors.Is(err, context.Canceled)
}
