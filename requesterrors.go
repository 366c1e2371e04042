package tailfin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// The errors of a request that its sender, and not the peer, has ended.

// Cancelled is a request whose context ended: errors.Is finds context.Canceled,
// context.DeadlineExceeded or the cause that was given.
type Cancelled struct {
	Progress
	Err error
}

func (e *Cancelled) Error() string { return fmt.Sprintf("tailfin: %v (%s)", e.Err, e.Phase) }

func (e *Cancelled) Unwrap() error { return e.Err }

// Timeout tells a deadline from a cancellation.
func (e *Cancelled) Timeout() bool { return errors.Is(e.Err, context.DeadlineExceeded) }

// Temporary reports false: the context stays ended.
func (e *Cancelled) Temporary() bool { return false }

var _ net.Error = (*Cancelled)(nil)

// cancelled is the error of a context that has ended.
func cancelled(ctx context.Context, p Progress) error {
	return &Cancelled{Progress: p, Err: context.Cause(ctx)}
}

// HeaderTimeout is a response whose header section did not arrive within
// Transport.ResponseHeaderTimeout.
type HeaderTimeout struct {
	Progress
	After time.Duration
}

func (e *HeaderTimeout) Error() string {
	return fmt.Sprintf("tailfin: no response header section within %v of the request", e.After)
}

// Timeout reports true, as net.Error asks for.
func (e *HeaderTimeout) Timeout() bool { return true }

// Temporary reports true: the connection goes on.
func (e *HeaderTimeout) Temporary() bool { return true }

var _ net.Error = (*HeaderTimeout)(nil)

// RequestBodyError is a request whose body could not be read, or was not as long
// as its ContentLength.
type RequestBodyError struct {
	Progress
	Err error
}

func (e *RequestBodyError) Error() string {
	return fmt.Sprintf("tailfin: read request body: %v", e.Err)
}

func (e *RequestBodyError) Unwrap() error { return e.Err }

// RequestError is a request that cannot be sent as it is. Nothing of it was, and
// no other try would go better.
type RequestError struct {
	Progress
	Err error
}

func (e *RequestError) Error() string { return "tailfin: " + e.Err.Error() }

func (e *RequestError) Unwrap() error { return e.Err }

// FieldSectionError is a request header section above what the peer accepts.
// Sizes are in bytes as RFC 9114 §4.2.2 counts: names and values, and 32 for
// each field.
type FieldSectionError struct {
	Size  uint64 // of the request's header section
	Limit uint64 // the peer's SETTINGS_MAX_FIELD_SECTION_SIZE (RFC 9114 §7.2.4.1)
}

func (e *FieldSectionError) Error() string {
	return fmt.Sprintf("header section of %d bytes, the peer takes %d at most (RFC 9114 §4.2.2)", e.Size, e.Limit)
}

var errNoConnectProtocol = errors.New("the peer does not take extended CONNECT (RFC 9220 §3)")
