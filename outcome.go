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

// Class says how a request ended.
type Class int

const (
	// ClassSuccess is a response that arrived whole, whatever its status.
	ClassSuccess Class = iota
	// ClassGracefulClose is a connection that the peer closed with H3_NO_ERROR.
	ClassGracefulClose
	// ClassGoAway is a request that the peer's GOAWAY covers.
	ClassGoAway
	// ClassAppClose is a connection that was closed with an HTTP/3 error code.
	ClassAppClose
	// ClassTransportClose is a connection that was closed with a QUIC error code.
	ClassTransportClose
	// ClassResetRejected is a stream that the peer reset with H3_REQUEST_REJECTED.
	ClassResetRejected
	// ClassResetCancelled is a stream that the peer reset with H3_REQUEST_CANCELLED.
	ClassResetCancelled
	// ClassResetOther is a stream that the peer reset with another code.
	ClassResetOther
	// ClassTruncatedGraceful is a body that a close with H3_NO_ERROR cut short.
	ClassTruncatedGraceful
	// ClassTruncatedError is a body that another end of the connection cut short. One
	// that a reset of its stream cut short counts as that reset.
	ClassTruncatedError
	// ClassTruncatedFIN is a body that ended properly before its Content-Length.
	ClassTruncatedFIN
	// ClassFrameError is a response that broke RFC 9114.
	ClassFrameError
	// ClassIdleTimeout is a connection that fell silent.
	ClassIdleTimeout
	// ClassStatelessReset is a connection whose peer has lost its state.
	ClassStatelessReset
	// ClassHeaderTimeout is a response that did not begin in time.
	ClassHeaderTimeout
	// ClassDialRefused is a connection that the peer would not accept.
	ClassDialRefused
	// ClassDialHandshake is a connection whose handshake failed.
	ClassDialHandshake
	// ClassDialTimeout is a connection that nobody answered in time.
	ClassDialTimeout
	// ClassDialOther is a connection that could not be tried: no such host, no socket.
	ClassDialOther
	// ClassEarlyRejected is 0-RTT data that the peer would not take.
	ClassEarlyRejected
	// ClassCancelled is a request that the caller gave up.
	ClassCancelled
	// ClassDeadline is a request whose context's deadline has passed.
	ClassDeadline
	// ClassRequestBody is a request whose body could not be read.
	ClassRequestBody
	// ClassRequest is a request that cannot be sent as it is.
	ClassRequest
	// ClassOther is an error that does not come from this package.
	ClassOther

	classes int = iota
)

var classNames = [classes]string{
	"success", "graceful-close", "goaway", "app-close", "transport-close", "reset-rejected", "reset-cancelled",
	"reset-other", "truncated-graceful", "truncated-error", "truncated-fin", "frame-error", "idle-timeout",
	"stateless-reset", "header-timeout", "dial-refused", "dial-handshake", "dial-timeout", "dial-other",
	"early-rejected", "cancelled", "deadline", "request-body", "request", "other",
}

// String returns the class as logs and metrics spell it.
func (c Class) String() string {
	if c < 0 || int(c) >= classes {
		return fmt.Sprintf("class(%d)", int(c))
	}
	return classNames[c]
}

// Verdict says what an outcome does to a circuit breaker.
type Verdict int

const (
	// Success speaks for the peer.
	Success Verdict = iota
	// Failure speaks against it.
	Failure
	// Ignored says nothing of it: the caller ended the request, or the peer
	// declined it in good order.
	Ignored
)

// String returns the verdict as logs and metrics spell it.
func (v Verdict) String() string {
	switch v {
	case Success:
		return "success"
	case Failure:
		return "failure"
	case Ignored:
		return "ignored"
	}
	return fmt.Sprintf("verdict(%d)", int(v))
}

// An Outcome is what a gateway needs to know of a request that has ended.
type Outcome struct {
	Class Class
	Phase Phase
	// RetrySafe tells that the peer cannot have acted on the request
	// (Progress.RetrySafe).
	RetrySafe bool
	// MarksUnsupported tells a transport failure after which HTTP/3 should not be
	// tried with the authority for a while. Any other outcome keeps HTTP/3.
	MarksUnsupported bool
	// Breaker is what a circuit breaker should make of it.
	Breaker Verdict
	// Latency tells that the time it took says something of the peer.
	Latency bool
}

// OutcomeOf returns the outcome of a request: nil and io.EOF are a success, else
// err is what Transport.RoundTrip returned, or a Read of the response's body.
func OutcomeOf(err error) Outcome {
	class, phase := classOf(err)
	row, ok := outcomeRows[outcomeKey{class, phase}]
	if !ok {
		// What no row is for, such as a cut body whose phase is lost, is taken for
		// a failure from which nothing follows.
		row = Outcome{Class: class, Phase: phase, Breaker: Failure}
	}
	if p, ok := ProgressOf(err); ok {
		row.RetrySafe = p.RetrySafe
	}
	return row
}

// classOf looks from the outside in: the outermost type of this package says
// most about the request, what it wraps is the cause.
func classOf(err error) (Class, Phase) {
	if err == nil || err == io.EOF { //nolint:errorlint // a Read returns it as it is; wrapped it is a lost connection of HTTP/1
		return ClassSuccess, PhaseComplete
	}
	class := errorClass(err)
	p, typed := ProgressOf(err)
	switch {
	case typed:
	case errors.Is(err, ErrBodyClosed):
		p.Phase = PhaseBody
	case class != ClassOther: // a context's error as another RoundTripper returns it: who knows
		p.Phase = PhaseHeaders
	}
	return class, p.Phase
}

func errorClass(err error) Class {
	var (
		given     *Cancelled
		body      *RequestBodyError
		request   *RequestError
		truncated *Truncated
		dial      *DialError
		early     *EarlyDataRejected
		late      *HeaderTimeout
		graceful  *GracefulClose
		closed    *ConnClosed
		reset     *StreamReset
		frame     *FrameError
		idle      *IdleTimeout
		stateless *StatelessReset
	)
	switch {
	case errors.As(err, &given):
		if given.Timeout() {
			return ClassDeadline
		}
		return ClassCancelled
	case errors.As(err, &body):
		return ClassRequestBody
	case errors.As(err, &request):
		return ClassRequest
	case errors.As(err, &truncated):
		return truncatedClass(truncated)
	case errors.As(err, &dial):
		return dialClass(dial)
	case errors.As(err, &early):
		return ClassEarlyRejected
	case errors.As(err, &late):
		return ClassHeaderTimeout
	case errors.As(err, &frame):
		return ClassFrameError
	case errors.As(err, &graceful):
		if graceful.GoAway {
			return ClassGoAway
		}
		return ClassGracefulClose
	case errors.As(err, &closed):
		if closed.Application {
			return ClassAppClose
		}
		return ClassTransportClose
	case errors.As(err, &reset):
		return resetClass(reset)
	case errors.As(err, &idle):
		return ClassIdleTimeout
	case errors.As(err, &stateless):
		return ClassStatelessReset
	case errors.Is(err, ErrBodyClosed), errors.Is(err, context.Canceled):
		return ClassCancelled
	case errors.Is(err, context.DeadlineExceeded):
		return ClassDeadline
	}
	return ClassOther
}

func truncatedClass(e *Truncated) Class {
	var graceful *GracefulClose
	var reset *StreamReset
	switch {
	case errors.As(e.Err, &graceful):
		return ClassTruncatedGraceful
	case errors.As(e.Err, &reset):
		return resetClass(reset)
	case e.FINSeen:
		return ClassTruncatedFIN
	}
	return ClassTruncatedError
}

func resetClass(e *StreamReset) Class {
	switch code := h3frame.ErrorCode(e.Code); {
	case !e.Remote:
		return ClassCancelled
	case code == h3frame.ErrCodeRequestRejected:
		return ClassResetRejected
	case code == h3frame.ErrCodeRequestCancelled:
		return ClassResetCancelled
	}
	return ClassResetOther
}

func dialClass(e *DialError) Class {
	var (
		quicErr  *quic.TransportError
		appErr   *quic.ApplicationError
		version  *quic.VersionNegotiationError
		timeout  *quic.HandshakeTimeoutError
		idle     *quic.IdleTimeoutError
		notFound *net.DNSError
	)
	switch {
	case errors.As(e.Err, &notFound):
		return ClassDialOther
	case errors.As(e.Err, &quicErr):
		if quicErr.Remote && quicErr.ErrorCode == quic.ConnectionRefused {
			return ClassDialRefused
		}
		return ClassDialHandshake
	case errors.As(e.Err, &appErr), errors.As(e.Err, &version):
		return ClassDialHandshake
	case errors.As(e.Err, &timeout), errors.As(e.Err, &idle), errors.Is(e.Err, os.ErrDeadlineExceeded):
		return ClassDialTimeout
	}
	return ClassDialOther
}
