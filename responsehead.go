package tailfin

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// freeze takes the header as it is at WriteHeader, and what it says of the body
// and of trailers.
func (w *responseWriter) freeze() {
	w.lend()
	for _, line := range w.header["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			w.trailer = append(w.trailer, http.CanonicalHeaderKey(strings.TrimSpace(name)))
		}
	}
	_, w.typed = w.header["Content-Type"]
	_, w.dated = w.header["Date"]
	w.encoded = w.header.Get("Content-Encoding") != ""
	noLength := false
	if v := w.header.Get("Content-Length"); v != "" {
		n, err := strconv.ParseUint(v, 10, 63)
		// No number is no length, and these have none (RFC 9110 §8.6, §9.3.6).
		if noLength = err != nil || w.status == http.StatusNoContent || w.tunnels(); !noLength {
			w.want = int64(n)
		}
	}
	fields := h3frame.AppendResponseFields(w.mem.fields, h3frame.ResponseHead{Status: w.status, Header: w.header})
	if noLength || len(w.trailer) > 0 {
		fields = slices.DeleteFunc(fields, func(f h3frame.Field) bool {
			return noLength && f.Name == fieldContentLength ||
				slices.ContainsFunc(w.trailer, func(name string) bool { return strings.EqualFold(name, f.Name) })
		})
	}
	w.mem.fields = fields
}

// The fields that an answer gets if its handler has not set them.
const (
	fieldContentLength = "content-length"
	fieldContentType   = "content-type"
	fieldDate          = "date"
)

// addField adds a field to those that are frozen.
func (w *responseWriter) addField(name, value string) {
	w.mem.fields = append(w.mem.fields, h3frame.Field{Name: name, Value: value})
}

// addType adds the Content-Type of a body that begins with sample.
func (w *responseWriter) addType(sample []byte) {
	w.typed = true
	w.addField(fieldContentType, http.DetectContentType(sample))
}

// interimHeader is the header of a 1xx response: without what describes the final
// one's content or comes after it.
func interimHeader(header http.Header) http.Header {
	h := header.Clone() // nil of nil
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
			w.addType(sample)
		}
	}
	if !w.dated {
		w.addField(fieldDate, dateField())
	}
	w.mem.section = h3frame.AppendFieldSection(w.mem.section[:0], w.mem.fields)
	w.str.head = h3frame.AppendHeaders(w.str.head, w.mem.section)
}

// sniffs tells that the type of the body is to be found out. A Content-Type that
// is set to nil says no, as in net/http.
func (w *responseWriter) sniffs() bool {
	return !w.typed && bodyAllowed(w.status) && !w.tunnels() && !w.encoded
}

// trailerFields collects the trailer section (http.TrailerPrefix, Trailer). A
// tunnel has none (RFC 9114 §4.4), nor has the answer to HEAD.
func (w *responseWriter) trailerFields() []h3frame.Field {
	if w.tunnels() || w.isHead || !bodyAllowed(w.status) {
		return nil
	}
	var trailer http.Header
	add := func(name string, values []string) {
		if trailer == nil {
			trailer = make(http.Header)
		}
		trailer[name] = values
	}
	for name, values := range w.header {
		if bare, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			add(http.CanonicalHeaderKey(bare), values)
		}
	}
	for _, name := range w.trailer {
		if values := w.header[name]; len(values) > 0 {
			add(name, values)
		}
	}
	if len(trailer) == 0 {
		return nil
	}
	return h3frame.TrailerFields(trailer)
}
