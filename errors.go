package tailfin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// Phase says how far a request had come when it ended.
type Phase int

const (
	// PhaseBeforeWire means that nothing of the request was sent to the peer.
	PhaseBeforeWire Phase = iota
	// PhaseHeaders means that the request was sent, at least in part, and no
	// final response header section has arrived.
	PhaseHeaders
	// PhaseBody means that the response header section has arrived and the
	// body has not ended.
	PhaseBody
	// PhaseComplete means that the whole message has arrived.
	PhaseComplete
)

// String returns the phase as logs and metrics spell it.
func (p Phase) String() string {
	switch p {
	case PhaseBeforeWire:
		return "before-wire"
	case PhaseHeaders:
		return "headers"
	case PhaseBody:
		return "body"
	case PhaseComplete:
		return "complete"
	}
	return fmt.Sprintf("phase(%d)", int(p))
}

// Progress is what every error of this package knows about the request it
// ended. It is embedded in each of them.
type Progress struct {
	// Phase is how far the request had come.
	Phase Phase
	// Delivered is the number of body bytes handed to the caller before the error.
	Delivered int64
	// FINSeen tells that the peer finished its side of the stream.
	FINSeen bool
	// RetrySafe tells that the peer cannot have acted on the request: it never
	// reached the wire, was refused with H3_REQUEST_REJECTED, or its stream is
	// at or above the ID in the peer's GOAWAY (RFC 9114 §4.1.1, §5.2).
	RetrySafe bool
}

// RequestProgress returns the progress itself, so that errors.As finds it
// through an interface in whichever error type carries it.
func (p Progress) RequestProgress() Progress { return p }

// ProgressOf returns what err says about the request it ended. It reports
// false for an error that does not come from this package.
func ProgressOf(err error) (Progress, bool) {
	var p interface{ RequestProgress() Progress }
	if errors.As(err, &p) {
		return p.RequestProgress(), true
	}
	return Progress{}, false
}

// GracefulClose is a connection that the peer ended without an error: a
// CONNECTION_CLOSE with H3_NO_ERROR, or a GOAWAY that covers the request
// (RFC 9114 §5.2, §5.3). The peer still speaks HTTP/3, so this is no transport
// failure unless a body was cut short (see Truncated).
type GracefulClose struct {
	Progress
	// GoAway tells that a GOAWAY frame, rather than the close, ended the request.
	GoAway bool
	Err    error
}

func (e *GracefulClose) Error() string {
	how := "the peer closed the connection with H3_NO_ERROR"
	if e.GoAway {
		how = "the peer sent GOAWAY"
	}
	return fmt.Sprintf("tailfin: %s (%s)", how, e.Phase)
}

func (e *GracefulClose) Unwrap() error { return e.Err }

// ConnClosed is a connection that ended with an error code, by either side.
type ConnClosed struct {
	Progress
	// Code is the code in the CONNECTION_CLOSE frame: an HTTP/3 code if
	// Application is set (RFC 9114 §8.1), else a QUIC code (RFC 9000 §20.1).
	Code        uint64
	Remote      bool
	Application bool
	Err         error
}

func (e *ConnClosed) Error() string {
	who, what := "we", fmt.Sprintf("QUIC error 0x%x", e.Code)
	if e.Remote {
		who = "the peer"
	}
	if e.Application {
		what = h3frame.ErrorCode(e.Code).String()
	}
	return fmt.Sprintf("tailfin: %s closed the connection with %s (%s)", who, what, e.Phase)
}

func (e *ConnClosed) Unwrap() error { return e.Err }

// StreamReset is a request stream that was reset or refused: RESET_STREAM or
// STOP_SENDING (RFC 9000 §19.4, §19.5) from the peer, or our own cancellation.
type StreamReset struct {
	Progress
	Code   uint64
	Remote bool
	Err    error
}

func (e *StreamReset) Error() string {
	who := "we"
	if e.Remote {
		who = "the peer"
	}
	return fmt.Sprintf("tailfin: %s reset the stream with %s (%s)", who, h3frame.ErrorCode(e.Code), e.Phase)
}

func (e *StreamReset) Unwrap() error { return e.Err }

// Truncated is a body that ended before its Content-Length, or, with Want -1,
// whose connection closed before the FIN that would have ended it.
type Truncated struct {
	Progress
	// Got and Want are body bytes. Want is -1 if no Content-Length was given.
	Got, Want int64
	Err       error
}

func (e *Truncated) Error() string {
	if e.Want < 0 {
		return fmt.Sprintf("tailfin: body cut short after %d bytes, no Content-Length: %v", e.Got, e.Err)
	}
	return fmt.Sprintf("tailfin: body cut short after %d of %d bytes: %v", e.Got, e.Want, e.Err)
}

func (e *Truncated) Unwrap() error { return e.Err }

// FrameError is a violation of RFC 9114 by the peer, found by the decoder.
type FrameError struct {
	Progress
	Code h3frame.ErrorCode
	Err  error
}

func (e *FrameError) Error() string { return "tailfin: " + e.Err.Error() }

func (e *FrameError) Unwrap() error { return e.Err }

// IdleTimeout is a connection that QUIC gave up on after silence (RFC 9000 §10.1).
type IdleTimeout struct {
	Progress
	Err error
}

func (e *IdleTimeout) Error() string {
	return fmt.Sprintf("tailfin: connection timed out: %v (%s)", e.Err, e.Phase)
}

func (e *IdleTimeout) Unwrap() error { return e.Err }

// Timeout reports true, as net.Error asks for.
func (e *IdleTimeout) Timeout() bool { return true }

// Temporary reports false: the connection is gone.
func (e *IdleTimeout) Temporary() bool { return false }

var _ net.Error = (*IdleTimeout)(nil)

// StatelessReset is a connection whose peer has lost its state (RFC 9000 §10.3).
type StatelessReset struct {
	Progress
	Err error
}

func (e *StatelessReset) Error() string {
	return fmt.Sprintf("tailfin: the peer lost its state and reset the connection (%s)", e.Phase)
}

func (e *StatelessReset) Unwrap() error { return e.Err }

// DialError is a connection that was never made. Nothing was sent of the
// request, so that a retry is safe.
type DialError struct {
	Progress
	// Addr is what was dialed, host:port.
	Addr string
	Err  error
}

func (e *DialError) Error() string { return fmt.Sprintf("tailfin: dial %s: %v", e.Addr, e.Err) }

func (e *DialError) Unwrap() error { return e.Err }

// ErrServerClosed is returned by Server.Serve and Server.ListenAndServe after
// Shutdown or Close.
var ErrServerClosed = errors.New("tailfin: server closed")

// ErrTransportClosed is returned by a Transport after Close.
var ErrTransportClosed = fmt.Errorf("tailfin: transport closed: %w", net.ErrClosed)

// classify turns an error of quic-go or h3frame into the typed error of this
// package. Errors that are typed already, io.EOF and errors of a context or a
// deadline pass through.
func classify(err error, p Progress) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	if _, typed := ProgressOf(err); typed {
		return err
	}
	if isContextOrDeadline(err) {
		return err
	}
	var (
		frameErr *h3frame.FrameError
		appErr   *quic.ApplicationError
		quicErr  *quic.TransportError
		strErr   *quic.StreamError
		idleErr  *quic.IdleTimeoutError
		hsErr    *quic.HandshakeTimeoutError
		resetErr *quic.StatelessResetError
	)
	switch {
	case errors.As(err, &frameErr):
		return &FrameError{Progress: p, Code: frameErr.Code, Err: err}
	case isEarlyRejected(err):
		p.RetrySafe = true // the peer has not looked at it
		return &EarlyDataRejected{Progress: p, Err: err}
	case errors.As(err, &strErr):
		// Once a response has begun the peer has acted on the request, whatever
		// it says (RFC 9114 §4.1.1).
		if p.Phase < PhaseBody && strErr.Remote && h3frame.ErrorCode(strErr.ErrorCode) == h3frame.ErrCodeRequestRejected {
			p.RetrySafe = true
		}
		return &StreamReset{Progress: p, Code: uint64(strErr.ErrorCode), Remote: strErr.Remote, Err: err}
	case errors.As(err, &appErr):
		if appErr.Remote && h3frame.ErrorCode(appErr.ErrorCode) == h3frame.ErrCodeNoError {
			return &GracefulClose{Progress: p, Err: err}
		}
		return &ConnClosed{Progress: p, Code: uint64(appErr.ErrorCode), Remote: appErr.Remote, Application: true, Err: err}
	case errors.As(err, &quicErr):
		return &ConnClosed{Progress: p, Code: uint64(quicErr.ErrorCode), Remote: quicErr.Remote, Err: err}
	case errors.As(err, &idleErr), errors.As(err, &hsErr):
		return &IdleTimeout{Progress: p, Err: err}
	case errors.As(err, &resetErr):
		return &StatelessReset{Progress: p, Err: err}
	}
	return err
}

// isContextOrDeadline tells a cancellation or a deadline of the caller's from
// what the peer or the network did. quic-go's idle timeout satisfies
// net.Error but neither of these.
func isContextOrDeadline(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}
