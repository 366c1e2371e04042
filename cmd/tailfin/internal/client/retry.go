package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin"
)

const (
	// DefaultRetryWait is the pause before the first retry.
	DefaultRetryWait = 500 * time.Millisecond
	// maxRetryWait bounds the pauses that grow by themselves.
	maxRetryWait = 15 * time.Second
	// maxRetryAfter bounds what Retry-After may ask for.
	maxRetryAfter = time.Minute
	// progressEnough is how many bytes an attempt has to bring to count as
	// progress: a peer that sends a byte an attempt would keep a command for good.
	progressEnough = 64 << 10
)

// A retrier decides over the attempts of one transfer.
type retrier struct {
	session *Session
	what    string // URL, for the notes
	failed  int    // in a row, without progress
}

// again waits and reports true if the transfer is to be taken up again after an
// attempt that failed with err and has brought so many bytes.
func (r *retrier) again(ctx context.Context, err error, brought int64) bool {
	if brought >= progressEnough {
		r.failed = 0
	}
	r.failed++
	if ctx.Err() != nil || r.failed > r.session.Retries || !transient(err) {
		return false
	}
	pause := r.pause(err)
	r.session.note("%s: %v; again in %v (%d of %d)", r.what, err, pause.Round(10*time.Millisecond), r.failed, r.session.Retries)
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// pause is exponential, with jitter so that clients that were cut together do not
// come back together.
func (r *retrier) pause(err error) time.Duration {
	wait := r.session.RetryWait
	if wait <= 0 {
		wait = DefaultRetryWait
	}
	for n := 1; n < r.failed && wait < maxRetryWait; n++ {
		wait *= 2
	}
	wait = min(wait, maxRetryWait)
	wait = wait/2 + rand.N(wait/2+1)
	var status *StatusError
	if errors.As(err, &status) {
		wait = max(wait, status.After)
	}
	return wait
}

// transient tells an error after which another attempt may go better.
func transient(err error) bool {
	var (
		again  *retryError
		over   *startOverError
		status *StatusError
		file   *FileError
		dns    *net.DNSError
	)
	switch {
	case errors.As(err, &again), errors.As(err, &over):
		return true
	case errors.As(err, &file):
		return false
	case errors.As(err, &status):
		return !status.final && transientStatus(status.Code)
	case errors.As(err, &dns):
		return dns.IsTemporary || dns.IsTimeout
	}
	switch tailfin.OutcomeOf(err).Class {
	case tailfin.ClassCancelled, tailfin.ClassDeadline, tailfin.ClassRequestBody, tailfin.ClassRequest,
		tailfin.ClassFrameError, tailfin.ClassOther:
		return false
	case tailfin.ClassDialHandshake:
		var quicErr *quic.TransportError // a certificate does not become good by asking again
		return !errors.As(err, &quicErr) || !quicErr.ErrorCode.IsCryptoError()
	}
	return true
}

func transientStatus(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// A retryError is a state of the transfer, rather than of the network, that
// another attempt puts right.
type retryError struct{ err error }

func (e *retryError) Error() string { return e.err.Error() }

func (e *retryError) Unwrap() error { return e.err }

// retryAfter reads the field (RFC 9110 §10.2.3), within bounds.
func retryAfter(value string, now time.Time) time.Duration {
	var wait time.Duration
	if secs, err := strconv.ParseUint(value, 10, 31); err == nil {
		wait = time.Duration(secs) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}
