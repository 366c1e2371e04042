package client

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A validator names a version of what a URL gives, byte for byte (RFC 9110 §8.8.1).
// The zero value names none.
type validator struct {
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"last_modified,omitempty"`
}

// strongValidator returns the strong validator of an answer, if it has one: an
// entity tag that is not weak, or else a date at least a second before the answer
// was made, within which the file could have changed twice (RFC 9110 §8.8.2.2).
func strongValidator(h http.Header) validator {
	if tag := h.Get("ETag"); tag != "" {
		if strings.HasPrefix(tag, `"`) {
			return validator{ETag: tag}
		}
		return validator{} // a date beside a weak tag is no stronger than it
	}
	modified, err := http.ParseTime(h.Get("Last-Modified"))
	if err != nil {
		return validator{}
	}
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil || date.Sub(modified) < time.Second {
		return validator{}
	}
	return validator{LastModified: h.Get("Last-Modified")}
}

func (v validator) none() bool { return v == validator{} }

// ifRange is the value of the field (RFC 9110 §13.1.5).
func (v validator) ifRange() string {
	if v.ETag != "" {
		return v.ETag
	}
	return v.LastModified
}

// contradicts tells an answer that says to be of another version. A 206 must have
// the fields that a 200 would have, except those that If-Range makes known
// (RFC 9110 §15.3.7).
func (v validator) contradicts(h http.Header) bool {
	if tag := h.Get("ETag"); v.ETag != "" && tag != "" && tag != v.ETag {
		return true
	}
	date := h.Get("Last-Modified")
	return v.LastModified != "" && date != "" && date != v.LastModified
}

// A contentRange is what a 206 says to bring: bytes first to last of complete,
// which is -1 if the sender does not know it.
type contentRange struct{ first, last, complete int64 }

var errContentRange = errors.New("no Content-Range as in RFC 9110 §14.4")

// parseContentRange reads the field of a 206.
func parseContentRange(text string) (contentRange, error) {
	bad := fmt.Errorf("%q: %w", text, errContentRange)
	spec, ok := strings.CutPrefix(text, "bytes ")
	span, complete, ok2 := strings.Cut(spec, "/")
	first, last, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return contentRange{}, bad
	}
	var r contentRange
	var err1, err2, err3 error
	r.first, err1 = parsePosition(first)
	r.last, err2 = parsePosition(last)
	r.complete = -1
	if complete != "*" {
		r.complete, err3 = parsePosition(complete)
	}
	if errors.Join(err1, err2, err3) != nil || r.first > r.last || r.complete >= 0 && r.last >= r.complete {
		return contentRange{}, bad
	}
	return r, nil
}

// parsePosition takes digits only, as the grammar does.
func parsePosition(text string) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 63)
	return int64(n), err
}
