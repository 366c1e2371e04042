package receiver

import (
	"math"
	"net/http"
	"strconv"

	"github.com/dunglas/httpsfv"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
)

// Fields of resumable uploads. Each is an item of RFC 9651, but for the limits,
// which are a dictionary.
const (
	fieldComplete = "Upload-Complete"
	fieldOffset   = "Upload-Offset"
	fieldLength   = "Upload-Length"
	fieldLimit    = "Upload-Limit"
	fieldInterop  = "Upload-Draft-Interop-Version"
)

// interopVersion is of the draft that is spoken here. Until there is an RFC, those
// who differ must not take each other's 104 for theirs.
const interopVersion = "8"

// speaksDraft tells a client of the same draft.
func speaksDraft(h http.Header) bool {
	v, ok := integerField(h, fieldInterop)
	return ok && strconv.FormatInt(v, 10) == interopVersion
}

// boolField is a field's value, if it is there and a Boolean.
func boolField(h http.Header, name string) (value, ok bool) {
	item, err := httpsfv.UnmarshalItem(h.Values(name))
	if err != nil {
		return false, false
	}
	value, ok = item.Value.(bool)
	return value, ok
}

// integerField is a field's value, if it is there and an Integer that is not negative.
func integerField(h http.Header, name string) (int64, bool) {
	item, err := httpsfv.UnmarshalItem(h.Values(name))
	if err != nil {
		return 0, false
	}
	v, ok := item.Value.(int64)
	return v, ok && v >= 0
}

func formatBool(b bool) string {
	if b {
		return "?1"
	}
	return "?0"
}

// endOf is where a part of so many bytes ends, or what is longer than any upload: both
// numbers are a client's.
func endOf(offset, length int64) int64 {
	if length > math.MaxInt64-offset {
		return math.MaxInt64
	}
	return offset + length
}

// announcedLength is that of the whole upload, -1 if the request does not say. It
// may say so twice, and must not differ then.
func announcedLength(r *http.Request, offset int64, complete bool) (int64, error) {
	length, ok := integerField(r.Header, fieldLength)
	if !ok {
		length = -1
	}
	if !complete || r.ContentLength < 0 {
		return length, nil
	}
	sum := endOf(offset, r.ContentLength)
	if length >= 0 && length != sum {
		return 0, &sink.LengthError{Want: length, Got: sum}
	}
	return sum, nil
}
