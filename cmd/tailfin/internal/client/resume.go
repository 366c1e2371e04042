package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/tailfin-quic/tailfin"
)

// goOn asks the upload resource what it has, and sends the rest.
func (u *upload) goOn(ctx context.Context, tr *tailfin.Transport) error {
	state, err := u.resource.state(ctx, tr)
	var status *StatusError
	switch {
	case errors.As(err, &status) && !transientStatus(status.Code):
		return u.lost(fmt.Sprintf("the server has the upload no more (%v)", status))
	case err != nil:
		return err
	case state.offset > u.src.size:
		return u.lost(fmt.Sprintf("the server has %d bytes of a file of %d", state.offset, u.src.size))
	}
	if u.res.Attempts == 1 {
		u.res.Resumed = state.offset
	}
	u.known = state.offset
	// What is complete there is asked for its answer, by an append of nothing: the
	// first one was lost on its way.
	for {
		done, err := u.appendPart(ctx, tr)
		if done || err != nil {
			return err
		}
	}
}

// appendPart sends as much as the server takes in one request, from the known
// offset on, and reports whether the upload is done.
func (u *upload) appendPart(ctx context.Context, tr *tailfin.Transport) (bool, error) {
	offset := u.known // which may grow while the server tells of its progress
	length := u.src.size - offset
	if limit := u.resource.limits.maxAppend; limit > 0 && length > limit {
		length = limit
	}
	last := offset+length == u.src.size
	body, err := u.src.body(offset, length, u.moved)
	if err != nil {
		return false, err
	}
	defer func() { _ = body.Close() }()
	u.setSent(offset)
	resp, err := u.resource.append(watch104(ctx, u.on104), tr, offset, body, length, last)
	if err != nil {
		return false, err
	}
	defer func() { _ = resp.Body.Close() }()
	u.session.verboseResponse(tr, resp)
	complete := boolean(resp.Header.Get(fieldComplete))
	switch {
	case resp.StatusCode == http.StatusConflict && !complete:
		// Something of an earlier attempt arrived after the server had told its
		// offset. It knows better now.
		u.res.Status = resp.StatusCode
		return false, &retryError{fmt.Errorf("the server has another offset: %w", statusError(resp))}
	case resp.StatusCode < http.StatusMultipleChoices && !complete && !last:
		u.known = offset + length
		return false, nil
	case resp.StatusCode < http.StatusMultipleChoices && !complete:
		return false, &retryError{errors.New("the server took the rest and does not call the upload complete")}
	case resp.StatusCode >= http.StatusBadRequest && resp.StatusCode < http.StatusInternalServerError &&
		!complete && !transientStatus(resp.StatusCode):
		u.res.Status = resp.StatusCode
		return false, u.lost(statusError(resp).Error())
	}
	err = u.answer(resp)
	return err == nil, err
}

// lost gives the upload resource up, and has the file sent from its start.
func (u *upload) lost(why string) error {
	u.resource = nil
	u.known, u.res.Resumed = 0, 0
	u.journal.remove()
	u.session.note("%s: %s; sending it from its start", u.res.URL, why)
	return &startOverError{why}
}

// An appendLimitError is a server that wants the file in smaller parts.
type appendLimitError struct{ limit int64 }

func (e *appendLimitError) Error() string {
	return fmt.Sprintf("the server takes %d bytes at most in one request", e.limit)
}

// A sizeLimitError is a file that is too long for the server.
type sizeLimitError struct{ limit, size int64 }

func (e *sizeLimitError) Error() string {
	return fmt.Sprintf("the server takes %d bytes at most, and the file has %d", e.limit, e.size)
}

// checkLimits ends a request that brings more than the server takes.
func (u *upload) checkLimits() error {
	limits := u.resource.limits
	if limits.maxSize > 0 && u.src.size > limits.maxSize {
		return &sizeLimitError{limits.maxSize, u.src.size}
	}
	if limits.maxAppend > 0 && u.src.size > limits.maxAppend {
		return &appendLimitError{limits.maxAppend}
	}
	return nil
}
