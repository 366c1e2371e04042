package receiver

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/accesslog"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
)

// What becomes of a request to store: labels of a metric.
const (
	resultStored      = "stored"
	resultKept        = "kept"        // a part of an upload, which goes on in a later request
	resultBadName     = "bad_name"    // not a name that the sink takes
	resultTooLong     = "too_long"    // longer than the receiver or the sink takes
	resultCut         = "cut"         // the client ended the request before its body was whole
	resultConflict    = "conflict"    // an upload that has another offset or length, or another writer
	resultNotFound    = "not_found"   // an upload that is no more
	resultFull        = "full"        // no space or inodes, over quota, read-only
	resultUnavailable = "unavailable" // it may be sent again later
	resultFailed      = "failed"      // anything else: the log says what
)

var results = []string{
	resultStored, resultKept, resultBadName, resultTooLong, resultCut,
	resultConflict, resultNotFound, resultFull, resultUnavailable, resultFailed,
}

// retryAfter is when a client should come again that was told 503.
const retryAfter = 5 * time.Second

// storeFailure says how a body is answered that was not stored, and how it counts.
func storeFailure(err error) (status int, result string) {
	var (
		badName     *sink.NameError
		tooLong     *http.MaxBytesError
		noRoom      *sink.TooLongError
		offset      *sink.OffsetError
		length      *sink.LengthError
		unavailable *sink.UnavailableError
	)
	switch {
	case errors.As(err, &badName):
		return http.StatusBadRequest, resultBadName
	case errors.As(err, &tooLong), errors.As(err, &noRoom):
		return http.StatusRequestEntityTooLarge, resultTooLong
	case errors.As(err, &offset), errors.Is(err, sink.ErrSuperseded):
		return http.StatusConflict, resultConflict
	case errors.As(err, &length):
		return http.StatusBadRequest, resultConflict
	case errors.Is(err, sink.ErrNoUpload):
		return http.StatusNotFound, resultNotFound
	case sink.IsFull(err):
		return http.StatusInsufficientStorage, resultFull
	case errors.As(err, &unavailable), errors.Is(err, sink.ErrTooMany), errors.Is(err, sink.ErrClosed):
		return http.StatusServiceUnavailable, resultUnavailable
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return http.StatusRequestTimeout, resultCut
	case isBodyError(err):
		return http.StatusBadRequest, resultCut
	}
	return http.StatusInternalServerError, resultFailed
}

// openStatus answers a name that could not be opened.
func openStatus(err error) int {
	var unavailable *sink.UnavailableError
	if errors.As(err, &unavailable) {
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// isBodyError tells a body that the client cut short from a sink that failed.
func isBodyError(err error) bool {
	_, ok := tailfin.ProgressOf(err)
	return ok || errors.Is(err, context.Canceled) || errors.Is(err, tailfin.ErrBodyClosed)
}

// notStored answers a body that was not stored.
func (h *Handler) notStored(w http.ResponseWriter, r *http.Request, err error) {
	status, result := storeFailure(err)
	h.Metrics.count(result)
	fail(w, r, status, err)
}

// fail answers with a status and the reason. What went wrong on our side is
// for the log; the client gets no paths of this machine.
func fail(w http.ResponseWriter, r *http.Request, status int, err error) {
	http.Error(w, reason(w, status, err), status)
	accesslog.Fail(r.Context(), err)
}

// reason is what the client is told; with Retry-After it also says when.
func reason(w http.ResponseWriter, status int, err error) string {
	switch {
	case status == http.StatusInsufficientStorage:
		return "the receiver's storage is full or read-only; nothing was stored"
	case status == http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
		return "the receiver cannot reach its storage now; try again later"
	case status >= http.StatusInternalServerError:
		return "the receiver could not store or read this; its log says why"
	}
	return err.Error()
}
