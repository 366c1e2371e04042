package tailfin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// maxInterim bounds the interim (1xx) responses to one request. RFC 9110 §15.2
// sets none; a peer that sends them without end would keep a request forever.
const maxInterim = 100

// A clientStream is one request on a clientConn.
type clientStream struct {
	conn  *clientConn
	quic  *quic.Stream
	src   *messageSource
	ctx   context.Context
	trace clientTrace
	try   *requestTry
	body  *requestBody // of this try; nil if there is none
	wire  *atomic.Bool // something of it was sent; nil if that is not known

	stopWatch func() bool   // of the context
	endOnce   sync.Once     //
	bodyErr   chan error    // capacity 1: the request body failed to read
	proceed   chan bool     // capacity 1: whether to send a body that waits for 100 Continue
	sent      atomic.Bool   // the request was written to its end
	headSeen  atomic.Bool   // a final response header section has arrived
	timeout   responseTimer // ResponseHeaderTimeout
}

// newClientStream begins a request on a stream that the connection counts.
func (c *clientConn) newClientStream(ctx context.Context, str *quic.Stream, try *requestTry) *clientStream {
	s := &clientStream{
		conn:    c,
		quic:    str,
		ctx:     ctx,
		trace:   traceOf(ctx),
		try:     try,
		body:    try.body,
		bodyErr: make(chan error, 1),
		proceed: make(chan bool, 1),
	}
	if c.wire != nil {
		s.wire = c.wire.stream(str.StreamID())
	}
	recv := c.h3.barrier.adopt(str) // before anything can come back on it
	limits := h3frame.Limits{MaxFieldSectionSize: c.transport.maxHeaderBytes()}
	s.src = newMessageSource(recv, h3frame.NewResponseDecoder(h3frame.ResponseStream, try.head.Method, limits))
	c.track(s)
	s.stopWatch = context.AfterFunc(ctx, s.cancel)
	if s.refused() {
		s.cancel() // the GOAWAY came before the stream was tracked
	}
	return s
}

// roundTrip sends the request and reads the head of its response.
func (s *clientStream) roundTrip() (*http.Response, error) {
	if s.body == nil {
		_ = s.send() // an error here shows on the receiving side, with its cause
	} else {
		go func() { _ = s.send() }()
	}
	head, err := s.readHead()
	if err != nil {
		err = s.explain(err) // before the cancel, which fails a body that is being read
		s.cancel()
		s.end()
		s.src.release()
		return nil, err
	}
	return s.newResponse(head), nil
}

// cancel gives the request up in both directions (RFC 9114 §4.1.1).
func (s *clientStream) cancel() {
	s.stopSending(h3frame.ErrCodeRequestCancelled)
	s.src.recv.CancelRead(h3frame.ErrCodeRequestCancelled)
}

// stopSending ends a request that is still being written. Closing its body ends
// a Read of it that may block for good.
func (s *clientStream) stopSending(code h3frame.ErrorCode) {
	if s.sent.Load() {
		return
	}
	s.quic.CancelWrite(quic.StreamErrorCode(code))
	select {
	case s.proceed <- false:
	default:
	}
	_ = s.body.Close()
}

// end counts the request as done.
func (s *clientStream) end() {
	s.endOnce.Do(func() {
		s.stopWatch()
		s.timeout.stop()
		s.conn.end(s)
	})
}

// refused tells that the peer's GOAWAY covers the request.
func (s *clientStream) refused() bool { return s.conn.h3.refused(s.quic.StreamID()) }

// progress is how far the request has come without a response. A request of
// which nothing was sent is before the wire wherever its error shows, and one
// that was sent in part cannot have been acted on if the peer's GOAWAY says so.
func (s *clientStream) progress() Progress {
	p := Progress{Phase: PhaseHeaders, FINSeen: s.src.recv.finished.Load(), RetrySafe: s.refused()}
	if s.wire != nil && !s.wire.Load() {
		p.Phase, p.RetrySafe = PhaseBeforeWire, true
	}
	return p
}

// explain turns what the receiving side said into the error for the caller: a
// context that ended, or a request body that failed, comes before what it led to.
func (s *clientStream) explain(err error) error {
	// Whatever was not sent by now must not be sent any more, or a request that
	// is said to be before the wire would reach it.
	s.quic.CancelWrite(quic.StreamErrorCode(h3frame.ErrCodeRequestCancelled))
	if s.conn.h3.barrier.closing.Load() {
		// A GOAWAY may have come with the close, on a stream of its own, and what
		// it says of this request must be known.
		<-s.conn.uniRead
	}
	p := s.progress()
	switch {
	case s.ctx.Err() != nil:
		return cancelled(s.ctx, p)
	case s.timeout.fired():
		return &HeaderTimeout{Progress: p, After: s.conn.transport.ResponseHeaderTimeout}
	case isEarlyRejected(err):
		return s.conn.earlyRejected()
	case s.refused():
		return &GracefulClose{Progress: p, GoAway: true, Err: err}
	}
	select {
	case bodyErr := <-s.bodyErr:
		return &RequestBodyError{Progress: p, Err: bodyErr}
	default:
	}
	s.failConn(err)
	return classify(err, p)
}

// failConn closes the connection if err is a violation that asks for it.
func (s *clientStream) failConn(err error) {
	var frameErr *h3frame.FrameError
	if errors.As(err, &frameErr) && frameErr.ConnectionError() {
		go s.conn.h3.fail(frameErr)
	}
}

// readHead reads header sections until the final one.
func (s *clientStream) readHead() (*h3frame.ResponseHead, error) {
	for interim := 0; ; interim++ {
		ev, err := s.src.next()
		if err != nil {
			return nil, err
		}
		if interim == 0 {
			s.trace.gotFirstResponseByte()
		}
		switch ev.Kind {
		case h3frame.EventHead:
			s.headSeen.Store(true)
			s.conn.answered.Store(true)
			s.timeout.stop()
			// A peer that has accepted the request may still wait for its body.
			s.leave(ev.Response.Status < http.StatusMultipleChoices)
			return ev.Response, nil
		case h3frame.EventInterim:
			if interim == maxInterim {
				return nil, &h3frame.FrameError{Code: h3frame.ErrCodeExcessiveLoad, Type: h3frame.FrameHeaders,
					Reason: fmt.Sprintf("more than %d interim responses", maxInterim)}
			}
			if err := s.trace.got1xx(ev.Response.Status, ev.Response.Header); err != nil {
				return nil, err
			}
			if ev.Response.Status == http.StatusContinue {
				s.trace.got100Continue()
				s.leave(true)
			}
		}
	}
}

// leave tells a body that waits for 100 Continue whether to go.
func (s *clientStream) leave(send bool) {
	select {
	case s.proceed <- send:
	default:
	}
}

// newResponse makes the http.Response of a final header section.
func (s *clientStream) newResponse(head *h3frame.ResponseHead) *http.Response {
	tlsState := s.conn.h3.quic.ConnectionState().TLS
	resp := &http.Response{
		Status:        fmt.Sprintf("%d %s", head.Status, http.StatusText(head.Status)),
		StatusCode:    head.Status,
		Proto:         "HTTP/3.0",
		ProtoMajor:    3,
		Header:        head.Header,
		ContentLength: declaredLength(head.Header),
		Request:       s.try.original,
		TLS:           &tlsState,
		Trailer:       announcedTrailer(head.Header),
	}
	body := newMessageBody(s.src, resp.Trailer, h3frame.ErrCodeRequestCancelled)
	body.onEnd = func(err error) {
		code := h3frame.ErrCodeRequestCancelled
		if errors.Is(err, io.EOF) {
			code = h3frame.ErrCodeNoError // the answer is whole: the peer needs no more of the request
		}
		s.stopSending(code)
		s.failConn(err)
		s.end()
		s.trace.putIdleConn(err, s.conn.usable())
	}
	resp.Body = &responseBody{messageBody: body, ctx: s.ctx}
	if s.src.msg.ContentLength() == 0 && (s.try.head.Method == http.MethodHead || !bodyAllowed(head.Status)) {
		go func() {
			_, _ = io.Copy(io.Discard, body)
			_ = body.Close()
		}()
		resp.Body = http.NoBody
		return resp
	}
	if s.try.gzip {
		gunzip(resp)
	}
	return resp
}

// A responseBody reports the end of the request's context as its own error.
type responseBody struct {
	*messageBody
	ctx context.Context
}

func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.messageBody.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && b.ctx.Err() != nil {
		err = cancelled(b.ctx, b.progress())
	}
	return n, err
}

// A responseTimer gives a request up whose response does not begin in time.
type responseTimer struct {
	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
	over    atomic.Bool
}

// start begins the wait of d and calls giveUp at its end, unless it is stopped.
func (t *responseTimer) start(d time.Duration, giveUp func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d <= 0 || t.stopped {
		return
	}
	t.timer = time.AfterFunc(d, func() {
		t.mu.Lock()
		late := t.stopped
		t.mu.Unlock()
		if !late {
			t.over.Store(true)
			giveUp()
		}
	})
}

func (t *responseTimer) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	if t.timer != nil {
		t.timer.Stop()
	}
}

func (t *responseTimer) fired() bool { return t.over.Load() }
