package tailfin

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// freeze takes the header as it is at WriteHeader, and what it says of the body
// and of trailers.
func (w *responseWriter) freeze() {
	w.frozen = w.header.Clone()
	for _, line := range w.frozen.Values("Trailer") {
		for name := range strings.SplitSeq(line, ",") {
			w.trailer = append(w.trailer, http.CanonicalHeaderKey(strings.TrimSpace(name)))
		}
	}
	for _, name := range w.trailer {
		delete(w.frozen, name)
	}
	for name := range w.frozen {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			delete(w.frozen, name)
		}
	}
	v := w.frozen.Get("Content-Length")
	n, err := strconv.ParseUint(v, 10, 63)
	switch {
	case v == "":
	case err != nil, w.status == http.StatusNoContent, w.tunnels():
		// No number is no length, and these have none (RFC 9110 §8.6, §9.3.6).
		w.frozen.Del("Content-Length")
	default:
		w.want = int64(n)
	}
}

// interimHeader is the header of a 1xx response: without what describes the final
// one's content or comes after it.
func interimHeader(header http.Header) http.Header {
	h := header.Clone()
	h.Del("Content-Length")
	h.Del("Trailer")
	for name := range h {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			delete(h, name)
		}
	}
	return h
}

// sendHead queues the final header section ahead of the gathered body. more is
// what is about to follow that body.
func (w *responseWriter) sendHead(more []byte) {
	w.sent = true
	if w.sniffs() {
		sample := w.str.body
		if len(sample) < sniffLen {
			sample = append(sample[:len(sample):len(sample)], more[:min(len(more), sniffLen)]...)
		}
		if len(sample) > 0 {
			w.frozen.Set("Content-Type", http.DetectContentType(sample))
		}
	}
	if _, ok := w.frozen["Date"]; !ok {
		w.frozen.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	}
	fields := h3frame.ResponseFields(h3frame.ResponseHead{Status: w.status, Header: w.frozen})
	w.str.head = h3frame.AppendHeaders(w.str.head, h3frame.AppendFieldSection(nil, fields))
}

// sniffs tells that the type of the body is to be found out. A Content-Type that
// is set to nil says no, as in net/http.
func (w *responseWriter) sniffs() bool {
	_, typed := w.frozen["Content-Type"]
	return !typed && bodyAllowed(w.status) && !w.tunnels() && w.frozen.Get("Content-Encoding") == ""
}

// trailerFields collects the trailer section (http.TrailerPrefix, Trailer). A
// tunnel has none (RFC 9114 §4.4), nor has the answer to HEAD.
func (w *responseWriter) trailerFields() []h3frame.Field {
	if w.tunnels() || w.isHead || !bodyAllowed(w.status) {
		return nil
	}
	trailer := make(http.Header)
	for name, values := range w.header {
		if bare, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			trailer[http.CanonicalHeaderKey(bare)] = values
		}
	}
	for _, name := range w.trailer {
		if values := w.header[name]; len(values) > 0 {
			trailer[name] = values
		}
	}
	return h3frame.TrailerFields(trailer)
}
