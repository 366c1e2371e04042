package receiver

import (
	"encoding/json"
	"errors"
	"fmt"

	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/accesslog"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
)

// Resumable uploads, as draft-ietf-httpbis-resumable-upload-12 has them
// (https://datatracker.ietf.org/doc/draft-ietf-httpbis-resumable-upload/):
//
//	PUT, POST /NAME       with Upload-Complete: an upload that can be continued
//	HEAD, GET /.uploads/ID    how far it has come
//	PATCH /.uploads/ID        goes on
//	DELETE /.uploads/ID       gives it up
//	OPTIONS                   what the limits are
//
// Interim responses say where an upload is, not how it goes on: an offset that is
// told must be durable, and each would cost a sync.

// uploadsPath is where uploads are that can be continued; no NAME begins with a dot.
const uploadsPath = ".uploads/"

// partialUpload is the media type of a part (§ "Media Type").
const partialUpload = "application/partial-upload"

// statusUploadResumptionSupported is the interim status that tells where an
// upload can be continued.
const statusUploadResumptionSupported = 104

// Problem types of the draft (RFC 9457).
const (
	problemOffset = "https://iana.org/assignments/http-problem-types#mismatching-upload-offset"
	problemLength = "https://iana.org/assignments/http-problem-types#inconsistent-upload-length"
)

// storeResumable serves a request to store that may be continued. It is false for
// all others, which it leaves as they are.
func (h *Handler) storeResumable(w http.ResponseWriter, r *http.Request, name string) bool {
	res, can := h.Sink.(sink.Resumer)
	complete, asks := boolField(r.Header, fieldComplete)
	// A whole upload can be continued only by who was told where, and a client of
	// another draft must not be.
	known := speaksDraft(r.Header)
	if !can || !asks || complete && !known {
		return false
	}
	start := time.Now()
	length, err := announcedLength(r, 0, complete)
	if err == nil {
		err = h.tooLong(length)
	}
	if err != nil {
		h.notAppended(w, r, err)
		return true
	}
	part, err := res.Create(r.Context(), newUpload(r, name, start), length)
	if errors.Is(err, sink.ErrTooMany) && complete {
		accesslog.Add(r.Context(), slog.String("resumable", err.Error()))
		return false
	}
	if err != nil {
		h.notAppended(w, r, err)
		return true
	}
	h.Metrics.event(eventCreated)
	if known {
		header := w.Header()
		header.Set("Location", "/"+uploadsPath+part.ID)
		header.Set(fieldLimit, h.limits(&part))
		header.Set(fieldInterop, interopVersion)
		w.WriteHeader(statusUploadResumptionSupported)
		for _, name := range []string{"Location", fieldLimit, fieldInterop} {
			header.Del(name)
		}
	}
	got, err := res.Append(r.Context(), part.ID, sink.Part{Length: length, Complete: complete}, h.body(w, r, 0))
	h.appended(w, r, res, part.ID, got, err, start)
	return true
}

// upload serves an upload that can be continued.
func (h *Handler) upload(w http.ResponseWriter, r *http.Request, id string) {
	res, ok := h.Sink.(sink.Resumer)
	if !ok {
		http.Error(w, "this receiver keeps no unfinished uploads", http.StatusNotFound)
		return
	}
	switch r.Method {
	case http.MethodHead, http.MethodGet:
		part, err := res.Find(r.Context(), id)
		if err != nil {
			status, _ := storeFailure(err)
			fail(w, r, status, err)
			return
		}
		h.state(w, &part)
		w.WriteHeader(http.StatusNoContent)
	case http.MethodPatch:
		h.patch(w, r, res, id)
	case http.MethodDelete:
		if err := res.Cancel(r.Context(), id); err != nil {
			status, _ := storeFailure(err)
			fail(w, r, status, err)
			return
		}
		h.Metrics.event(eventCancelled)
		w.WriteHeader(http.StatusNoContent)
	case http.MethodOptions:
		w.Header().Set("Allow", "DELETE, GET, HEAD, OPTIONS, PATCH")
		w.Header().Set("Accept-Patch", partialUpload)
		w.Header().Set(fieldLimit, h.limits(nil))
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Allow", "DELETE, GET, HEAD, OPTIONS, PATCH")
		http.Error(w, "use HEAD, PATCH or DELETE on an upload", http.StatusMethodNotAllowed)
	}
}

// options tells what may be asked of what is stored, and whether uploads can be
// continued.
func (h *Handler) options(w http.ResponseWriter) {
	w.Header().Set("Allow", h.allowed())
	if _, ok := h.Sink.(sink.Resumer); ok {
		w.Header().Set(fieldLimit, h.limits(nil))
	}
	w.WriteHeader(http.StatusNoContent)
}

// patch continues an upload.
func (h *Handler) patch(w http.ResponseWriter, r *http.Request, res sink.Resumer, id string) {
	start := time.Now()
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != partialUpload {
		w.Header().Set("Accept-Patch", partialUpload)
		fail(w, r, http.StatusUnsupportedMediaType, fmt.Errorf("content type %.100q; an upload goes on with %s", r.Header.Get("Content-Type"), partialUpload))
		return
	}
	offset, ok := integerField(r.Header, fieldOffset)
	complete, said := boolField(r.Header, fieldComplete)
	if !ok || !said {
		fail(w, r, http.StatusBadRequest, fmt.Errorf("%s and %s must both be there; HEAD tells the offset", fieldOffset, fieldComplete))
		return
	}
	length, err := announcedLength(r, offset, complete)
	if err == nil {
		err = h.tooLong(max(length, endOf(offset, max(r.ContentLength, 0))))
	}
	if err != nil {
		h.notAppended(w, r, err)
		return
	}
	h.Metrics.event(eventResumed)
	got, err := res.Append(r.Context(), id, sink.Part{Offset: offset, Length: length, Complete: complete}, h.body(w, r, offset))
	h.appended(w, r, res, id, got, err, start)
}

// appended answers a request that began or continued an upload.
func (h *Handler) appended(w http.ResponseWriter, r *http.Request, res sink.Resumer, id string, got sink.Partial, err error, start time.Time) {
	if err != nil {
		var tooLong *http.MaxBytesError
		if errors.As(err, &tooLong) {
			err = errors.Join(err, res.Cancel(r.Context(), id)) // more of it can never be taken
		}
		h.notAppended(w, r, err)
		return
	}
	if got.Receipt != nil {
		h.Metrics.event(eventCompleted)
		w.Header().Set(fieldComplete, formatBool(true))
		h.stored(w, r, *got.Receipt, start)
		return
	}
	h.Metrics.count(resultKept)
	accesslog.Add(r.Context(), slog.Int64("offset", got.Offset))
	h.state(w, &got)
	if r.Method == http.MethodPatch {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Location", "/"+uploadsPath+id)
	w.WriteHeader(http.StatusCreated)
}

// notAppended answers a part that was not taken, or not all of it.
func (h *Handler) notAppended(w http.ResponseWriter, r *http.Request, err error) {
	var (
		badName *sink.NameError
		offset  *sink.OffsetError
		length  *sink.LengthError
	)
	status, result := storeFailure(err)
	if result == resultCut {
		h.Metrics.event(eventInterrupted)
	}
	header := w.Header()
	// A name that is no good stays so: there is nothing to continue.
	header.Set(fieldComplete, formatBool(errors.As(err, &badName)))
	switch {
	case errors.As(err, &offset):
		header.Set(fieldOffset, strconv.FormatInt(offset.Want, 10))
		h.problem(w, r, err, status, map[string]any{
			"type": problemOffset, "title": "offset from request does not match offset of resource",
			"expected-offset": offset.Want, "provided-offset": offset.Got,
		})
	case errors.As(err, &length):
		h.problem(w, r, err, status, map[string]any{
			"type": problemLength, "title": "inconsistent length values for upload",
		})
	default:
		if status == http.StatusRequestEntityTooLarge {
			header.Set(fieldLimit, h.limits(nil))
		}
		h.notStored(w, r, err)
	}
}

// problem answers with a problem document (RFC 9457).
func (h *Handler) problem(w http.ResponseWriter, r *http.Request, err error, status int, doc map[string]any) {
	doc["status"], doc["detail"] = status, err.Error()
	h.Metrics.count(resultConflict)
	accesslog.Fail(r.Context(), err)
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(doc) // a client that has left does not mind
}

// state says how far an upload has come.
func (h *Handler) state(w http.ResponseWriter, part *sink.Partial) {
	header := w.Header()
	header.Set(fieldOffset, strconv.FormatInt(part.Offset, 10))
	header.Set(fieldComplete, formatBool(part.Receipt != nil))
	if part.Length >= 0 {
		header.Set(fieldLength, strconv.FormatInt(part.Length, 10))
	}
	header.Set(fieldLimit, h.limits(part))
	header.Set("Cache-Control", "no-store")
}

// limits are those of all uploads, and of part if there is one.
func (h *Handler) limits(part *sink.Partial) string {
	limits := "min-size=0" // must be said if there is nothing else to say
	if h.MaxBody > 0 {
		limits = "max-size=" + strconv.FormatInt(h.MaxBody, 10)
	}
	if part != nil {
		limits += ", max-age=" + strconv.FormatInt(max(0, int64(time.Until(part.Expires).Seconds())), 10)
	}
	return limits
}
