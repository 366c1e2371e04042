package tailfin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// A serverConn is one connection of a Server.
type serverConn struct {
	server    *Server
	transport *quic.Transport
	h3        *h3conn
	ctx       context.Context // of ConnContext; its values are every request's
	done      chan struct{}   // closed when the connection is over; see untrackConn

	values    context.Context // those of ctx, without its end
	onBodyEnd func(error)     // bodyEnded, as a value that costs nothing to hand out
	tls       atomic.Pointer[tls.ConnectionState]
	peer      atomic.Pointer[peerAddr]

	refusal error        // of a limit, if it refuses the connection; set before serve
	network netip.Prefix // that limits have counted it by; written and read by serve

	resets     floodMeter // requests that the client reset, and answers
	useless    floodMeter // frames that bring nothing, and answers
	overloaded atomic.Bool

	mu     sync.Mutex
	active int           // requests at work, until their answer was sent
	idle   chan struct{} // closed when active falls to zero; nil unless waited for
	next   quic.StreamID // the lowest request stream not seen yet
	leaves bool          // GOAWAY was sent: streams from next on are refused

	over      bool        // no request can come any more
	idleTimer *time.Timer // runs while no request is at work; nil without IdleTimeout
}

func newServerConn(s *Server, tr *quic.Transport, qc *quic.Conn) *serverConn {
	h3 := newH3Conn(qc, false, s.drain(), s.logger())
	if s.EnableDatagrams {
		h3.datagrams = newDatagramMux(h3, &s.stats.datagrams)
	}
	c := &serverConn{server: s, transport: tr, h3: h3, done: make(chan struct{})}
	c.onBodyEnd = c.bodyEnded
	c.resets.limit = limitOf(s.MaxResets, DefaultMaxResets)
	c.useless.limit = limitOf(s.MaxUselessFrames, DefaultMaxUselessFrames)
	h3.wasted = c.wasted
	h3.barrier.useless.report(c.wasted)
	return c
}

// serve runs the connection until it is over. Handlers may outlive it.
func (c *serverConn) serve() {
	defer c.server.untrackConn(c)
	if c.refusal != nil {
		c.server.refused(c.h3.quic.RemoteAddr(), c.refusal)
		_ = c.h3.quic.CloseWithError(quic.ApplicationErrorCode(h3frame.ErrCodeExcessiveLoad), c.refusal.Error())
		return
	}
	if c.ctx = c.server.connContext(c.h3.quic); c.ctx == nil {
		_ = c.h3.quic.CloseWithError(quic.ApplicationErrorCode(h3frame.ErrCodeInternal), "")
		return
	}
	c.values = context.WithoutCancel(c.ctx)
	c.server.workers.open()
	defer c.server.workers.close()
	var uni sync.WaitGroup
	if c.h3.handshakeDone() {
		c.countFrom()
	} else {
		uni.Go(c.countFrom)
	}
	if err := c.h3.open(c.server.settings()); err != nil && c.h3.quic.Context().Err() == nil {
		c.server.logger().Debug("control stream failed", "peer", c.h3.quic.RemoteAddr().String(), "err", err)
	}
	c.mu.Lock()
	c.watchIdle()
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.over = true
		c.unwatchIdle()
	}()
	uni.Go(c.h3.acceptUniStreams)
	if c.h3.datagrams != nil {
		uni.Go(c.h3.serveDatagrams)
	}
	for {
		str, err := c.h3.barrier.acceptStream(context.Background())
		if err != nil {
			break
		}
		if !c.begin(str.quic.StreamID()) {
			c.server.stats.requestsRejected.Add(1)
			str.recv.CancelRead(h3frame.ErrCodeRequestRejected)
			str.quic.CancelWrite(quic.StreamErrorCode(h3frame.ErrCodeRequestRejected))
			continue
		}
		// Before the next stream is looked at: its datagrams may be here already.
		var flow *datagramFlow
		if c.h3.datagrams != nil {
			flow = c.h3.datagrams.open(str.quic.Context(), str.quic.StreamID())
		}
		c.server.workers.run(task{c, str, flow})
	}
	uni.Wait()
}

// begin counts a request as at work. It reports false for one that our GOAWAY
// has told the client not to send (RFC 9114 §5.2).
func (c *serverConn) begin(id quic.StreamID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaves && id >= c.next {
		return false
	}
	c.unwatchIdle()
	c.active++
	c.server.stats.requests.Add(1)
	c.server.stats.requestsActive.Add(1)
	c.next = max(c.next, id+4)
	return true
}

// end counts a request as done.
func (c *serverConn) end() {
	c.server.stats.requestsActive.Add(-1)
	c.mu.Lock()
	c.active--
	idle := c.active == 0
	if idle && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
	if idle {
		c.watchIdle()
	}
	orphan := idle && c.over
	c.mu.Unlock()
	if orphan {
		go c.server.handlersDone(c) // it locks, and this may be the run loop
	}
}

func (c *serverConn) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.active > 0
}

// serveStream answers the request on one stream.
func (c *serverConn) serveStream(str acceptedStream, flow *datagramFlow) {
	left := false // to endSent, which then does the rest
	defer func() {
		if flow != nil {
			flow.close()
		}
		if !left {
			c.end()
		}
	}()
	start := time.Now()
	x := newServerStream(c, str)
	ev, err := c.readHead(&x.src)
	if err != nil {
		c.refuse(x, err)
		return
	}
	req, err := c.newRequest(x, ev.Request)
	if err != nil {
		c.refuse(x, err)
		return
	}
	defer x.ctx.finish()
	if timeout := c.server.RequestTimeout; timeout > 0 && req.Method != http.MethodConnect {
		ctx, stop := c.limitRequest(req, str, start.Add(timeout))
		defer stop()
		req = req.WithContext(ctx)
	}
	if err := c.admitEarly(req); err != nil {
		c.refuse(x, err)
		return
	}
	defer func() { _ = x.body.Close() }()
	w := x.respond(req.Method, flow)
	if awaitsContinue(req) {
		x.body.onRead = w.sendContinue
	}
	left = c.answer(x, req)
}

// answer runs the handler and sends what it left unsent. It reports whether the
// rest is left to endSent.
func (c *serverConn) answer(x *serverStream, req *http.Request) (left bool) {
	var err error
	aborted := c.runHandler(x, req)
	switch {
	case c.server.RequestTimeout > 0 && errors.Is(context.Cause(req.Context()), errRequestTimeout):
		// The handler may be back before limitRequest has reset the stream: what it
		// left must not pass for the whole of an answer.
		x.str.quic.CancelWrite(quic.StreamErrorCode(h3frame.ErrCodeRequestCancelled))
		err = errRequestTimeout
	case aborted:
		x.str.quic.CancelWrite(quic.StreamErrorCode(h3frame.ErrCodeInternal))
	default:
		if left, err = c.finish(x); err == nil {
			if !left {
				c.answered()
			}
			return left
		}
	}
	if resetByPeer(err) || resetByPeer(context.Cause(x.str.quic.Context())) {
		c.unanswered(&c.server.stats.requestsReset)
	}
	if err != nil {
		c.server.logger().Debug("answer not sent", "peer", req.RemoteAddr, "method", req.Method, "path", req.URL.Path, "err", err)
	}
	return false
}

// finish ends the answer. Where it can be told when its FIN was handed to the network
// the request counts as at work until then, so that a Shutdown does not close the
// connection before: it is left to endSent.
func (c *serverConn) finish(x *serverStream) (left bool, err error) {
	watched := c.h3.barrier.drains && c.h3.barrier.onEnd(x.str.quic.StreamID(), x)
	if err := x.answer.finish(); err != nil {
		if watched {
			c.h3.barrier.unwatchEnd(x.str.quic.StreamID())
		}
		return false, err
	}
	return watched && !x.ended(), nil
}

// runHandler calls the handler, and reports whether it panicked. As in
// net/http, http.ErrAbortHandler aborts the answer without a log line.
func (c *serverConn) runHandler(x *serverStream, req *http.Request) (aborted bool) {
	aborted = true
	defer func() {
		if !aborted {
			return
		}
		p := recover()
		if p == nil { // runtime.Goexit: this goroutine runs its deferred calls, and nothing else
			x.str.quic.CancelWrite(quic.StreamErrorCode(h3frame.ErrCodeInternal))
			return
		}
		if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
			c.server.stats.panics.Add(1)
			c.server.logger().Error("handler panicked", "peer", req.RemoteAddr, "method", req.Method,
				"path", req.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	c.server.handler().ServeHTTP(&x.answer, req)
	return false
}

// refuse ends a stream that carries no usable request.
func (c *serverConn) refuse(x *serverStream, err error) {
	str := x.str
	defer x.src.release()
	var frameErr *h3frame.FrameError
	switch {
	case errors.Is(err, errHeadTimeout): // nothing was done for it (RFC 9114 §4.1.1)
		str.quic.CancelWrite(quic.StreamErrorCode(h3frame.ErrCodeRequestRejected))
	case !errors.As(err, &frameErr):
		if resetByPeer(err) {
			c.unanswered(&c.server.stats.requestsReset)
		}
		str.quic.CancelWrite(quic.StreamErrorCode(h3frame.ErrCodeRequestCancelled)) // reset, or the connection is gone
	case frameErr.ConnectionError():
		c.h3.fail(frameErr)
	case frameErr.Code == h3frame.ErrCodeRequestIncomplete: // given up, which breaks no rule
		str.quic.CancelWrite(quic.StreamErrorCode(frameErr.Code))
	case frameErr.Code == h3frame.ErrCodeExcessiveLoad:
		c.unanswered(&c.server.stats.headersTooLarge) // to declare one costs a client ten bytes
		c.server.logger().Warn("header section too large", "peer", c.h3.quic.RemoteAddr().String(), "reason", frameErr.Reason)
		w := x.respond(http.MethodGet, nil)
		http.Error(w, frameErr.Reason, http.StatusRequestHeaderFieldsTooLarge)
		_ = w.finish()
	default:
		c.unanswered(&c.server.stats.requestsMalformed)
		c.server.logger().Warn("malformed request", "peer", c.h3.quic.RemoteAddr().String(), "reason", frameErr.Reason)
		str.quic.CancelWrite(quic.StreamErrorCode(frameErr.Code))
	}
	str.recv.CancelRead(h3frame.ErrCodeNoError)
}
