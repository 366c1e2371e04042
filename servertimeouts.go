package tailfin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// DefaultReadHeaderTimeout is the ReadHeaderTimeout of a Server whose field is zero.
const DefaultReadHeaderTimeout = 30 * time.Second

// The causes of what a timeout of the server ends.
var (
	errHeadTimeout    = fmt.Errorf("tailfin: the header section came too slowly: %w", os.ErrDeadlineExceeded)
	errBodyTimeout    = fmt.Errorf("tailfin: no byte of the request body came in time: %w", os.ErrDeadlineExceeded)
	errRequestTimeout = fmt.Errorf("tailfin: the request took too long: %w", context.DeadlineExceeded)
)

// readHead returns the head of a request, or an error, within ReadHeaderTimeout of
// now: a client that sends a byte now and then must not hold a stream for good.
func (c *serverConn) readHead(src *messageSource) (h3frame.Event, error) {
	timeout := c.server.ReadHeaderTimeout
	if timeout == 0 {
		timeout = DefaultReadHeaderTimeout
	}
	if timeout < 0 {
		return src.next()
	}
	_ = src.recv.SetReadDeadline(time.Now().Add(timeout))
	ev, err := src.next()
	_ = src.recv.SetReadDeadline(time.Time{})
	if err != nil && isContextOrDeadline(err) {
		c.server.stats.headTimeouts.Add(1)
		c.server.logger().Warn("header section too slow", "peer", c.h3.quic.RemoteAddr().String(), "timeout", timeout)
		err = errHeadTimeout
	}
	return ev, err
}

// bodyTimedOut counts and logs a body that BodyIdleTimeout has ended.
func (c *serverConn) bodyTimedOut() {
	c.server.stats.bodyTimeouts.Add(1)
	c.server.logger().Warn("request body too slow", "peer", c.h3.quic.RemoteAddr().String(), "timeout", c.server.BodyIdleTimeout)
}

// limitRequest returns the context of req with an end at the deadline of its
// RequestTimeout, at which the stream is reset too. stop must be called when the
// request is over. A tunnel lasts as long as it lasts, and has no such deadline.
func (c *serverConn) limitRequest(req *http.Request, str acceptedStream, deadline time.Time) (limited context.Context, stop func()) {
	limited, cancel := context.WithDeadlineCause(req.Context(), deadline, errRequestTimeout)
	unwatch := context.AfterFunc(limited, func() {
		if !errors.Is(context.Cause(limited), errRequestTimeout) {
			return
		}
		c.server.stats.requestTimeouts.Add(1)
		c.server.logger().Warn("request took too long", "peer", req.RemoteAddr, "method", req.Method, "path", req.URL.Path, "timeout", c.server.RequestTimeout)
		// Given up after work was done on it (RFC 9114 §4.1.1).
		str.recv.CancelRead(h3frame.ErrCodeRequestCancelled)
		str.quic.CancelWrite(quic.StreamErrorCode(h3frame.ErrCodeRequestCancelled))
	})
	return limited, func() {
		unwatch()
		cancel()
	}
}

// watchIdle begins to count the time without a request. The caller holds mu.
func (c *serverConn) watchIdle() {
	timeout := c.server.IdleTimeout
	switch {
	case timeout <= 0, c.over:
	case c.idleTimer == nil:
		c.idleTimer = time.AfterFunc(timeout, c.idled)
	default:
		c.idleTimer.Reset(timeout)
	}
}

// unwatchIdle ends the count. The caller holds mu.
func (c *serverConn) unwatchIdle() {
	if c.idleTimer != nil {
		c.idleTimer.Stop()
	}
}

// idled closes a connection that has had no request for IdleTimeout: GOAWAY first,
// so that the client sends no more, then H3_NO_ERROR.
func (c *serverConn) idled() {
	c.mu.Lock()
	busy := c.active > 0 || c.leaves
	c.mu.Unlock()
	if busy {
		return // a request came, or a Shutdown, just as the timer fired
	}
	c.server.stats.idleTimeouts.Add(1)
	c.server.logger().Info("closing idle connection", "peer", c.h3.quic.RemoteAddr().String(), "timeout", c.server.IdleTimeout)
	c.shutdown(context.Background())
	_ = c.h3.quic.CloseWithError(quic.ApplicationErrorCode(h3frame.ErrCodeNoError), "idle")
}
