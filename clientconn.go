package tailfin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/http/httpguts"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// A clientConn is one connection of a Transport.
type clientConn struct {
	transport *Transport
	h3        *h3conn

	mu       sync.Mutex
	active   int  // requests at work, until their body has ended
	lastCall bool // close when active falls to zero
}

func newClientConn(t *Transport, qc *quic.Conn, opts drainOptions) *clientConn {
	c := &clientConn{transport: t, h3: newH3Conn(qc, true, opts, t.logger())}
	settings := h3frame.Settings{MaxFieldSectionSize: h3frame.SettingValue(uint64(t.maxHeaderBytes()))}
	if err := c.h3.open(settings); err != nil {
		t.logger().Debug("control stream failed", "peer", qc.RemoteAddr().String(), "err", err)
	}
	go c.h3.acceptUniStreams()
	go c.refuseBidiStreams()
	return c
}

// refuseBidiStreams enforces that a server opens none (RFC 9114 §6.1).
func (c *clientConn) refuseBidiStreams() {
	if _, err := c.h3.barrier.acceptStream(context.Background()); err == nil {
		c.h3.fail(connError(h3frame.ErrCodeStreamCreation, "bidirectional stream from a server"))
	}
}

func (c *clientConn) close() {
	_ = c.h3.quic.CloseWithError(quic.ApplicationErrorCode(h3frame.ErrCodeNoError), "")
}

// closeWhenIdle closes the connection once its last request is done.
func (c *clientConn) closeWhenIdle() {
	c.mu.Lock()
	c.lastCall = true
	idle := c.active == 0
	c.mu.Unlock()
	if idle {
		go c.close() // it waits for the run loop
	}
}

func (c *clientConn) begin() {
	c.mu.Lock()
	c.active++
	c.mu.Unlock()
}

func (c *clientConn) end() {
	c.mu.Lock()
	c.active--
	over := c.lastCall && c.active == 0
	c.mu.Unlock()
	if over {
		go c.close()
	}
}

// A clientStream is one request on a clientConn.
type clientStream struct {
	conn *clientConn
	quic *quic.Stream
	src  *messageSource
	ctx  context.Context

	req *http.Request

	stopWatch func() bool // of the context
	endOnce   sync.Once
	bodyErr   chan error  // capacity 1: the request body failed to read
	sent      atomic.Bool // the request was written to its end
}

// roundTrip sends req on a stream of its own. It closes the request's body.
func (c *clientConn) roundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	str, err := c.h3.quic.OpenStreamSync(ctx)
	if err != nil {
		closeRequestBody(req)
		return nil, classify(err, Progress{Phase: PhaseBeforeWire, RetrySafe: true})
	}
	recv := c.h3.barrier.adopt(str) // before anything can come back on it
	s := &clientStream{
		conn:    c,
		quic:    str,
		src:     c.responseSource(recv, req),
		ctx:     ctx,
		req:     req,
		bodyErr: make(chan error, 1),
	}
	c.begin()
	s.stopWatch = context.AfterFunc(ctx, s.cancel)

	head := requestHead(req)
	if req.Body == nil || req.Body == http.NoBody {
		_ = s.send(req, head) // an error here shows on the receiving side, with its cause
	} else {
		go func() { _ = s.send(req, head) }()
	}
	resp, err := s.readResponse(req)
	if err != nil {
		s.cancel()
		s.end()
		s.src.release()
		return nil, s.explain(err)
	}
	return resp, nil
}

// responseSource reads the response to req.
func (c *clientConn) responseSource(recv *recvStream, req *http.Request) *messageSource {
	limits := h3frame.Limits{MaxFieldSectionSize: c.transport.maxHeaderBytes()}
	return newMessageSource(recv, h3frame.NewResponseDecoder(h3frame.ResponseStream, req.Method, limits))
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
	closeRequestBody(s.req)
}

// end counts the request as done.
func (s *clientStream) end() {
	s.endOnce.Do(func() {
		s.stopWatch()
		s.conn.end()
	})
}

// refused tells that the peer's GOAWAY covers the request.
func (s *clientStream) refused() bool { return s.conn.h3.refused(s.quic.StreamID()) }

// explain turns what the receiving side said into the error for the caller: a
// context that ended, or a request body that failed, comes before what it led to.
func (s *clientStream) explain(err error) error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	select {
	case bodyErr := <-s.bodyErr:
		return fmt.Errorf("tailfin: read request body: %w", bodyErr)
	default:
	}
	p := Progress{Phase: PhaseHeaders, FINSeen: s.src.recv.finished.Load(), RetrySafe: s.refused()}
	var frameErr *h3frame.FrameError
	if errors.As(err, &frameErr) && frameErr.ConnectionError() {
		go s.conn.h3.fail(frameErr)
	}
	return classify(err, p)
}

// send writes the request and closes its body.
func (s *clientStream) send(req *http.Request, head h3frame.RequestHead) error {
	defer closeRequestBody(req)
	out := sendStream{quic: s.quic}
	if err := out.writeFields(h3frame.RequestFields(head)); err != nil {
		return err
	}
	if req.Body != nil && req.Body != http.NoBody {
		if err := out.flush(); err != nil {
			return err
		}
		if err := copyBody(&out, req); err != nil {
			var failed *requestBodyError
			if errors.As(err, &failed) {
				s.bodyErr <- failed.err
				s.cancel()
			}
			return err
		}
	}
	if len(req.Trailer) > 0 {
		if err := out.writeFields(h3frame.TrailerFields(req.Trailer)); err != nil {
			return err
		}
	}
	if err := out.close(); err != nil {
		return err
	}
	s.sent.Store(true)
	return nil
}

// requestBodyError is a request body that could not be read, apart from a
// stream that could not be written.
type requestBodyError struct{ err error }

func (e *requestBodyError) Error() string { return e.err.Error() }
func (e *requestBodyError) Unwrap() error { return e.err }

// copyBody sends the request body, and holds it to its Content-Length.
func copyBody(out *sendStream, req *http.Request) error {
	buf := make([]byte, 2*writeBuffer)
	var sent int64
	for {
		n, err := req.Body.Read(buf)
		sent += int64(n)
		if req.ContentLength > 0 && sent > req.ContentLength {
			return &requestBodyError{fmt.Errorf("body is longer than its ContentLength of %d", req.ContentLength)}
		}
		if n > 0 {
			if werr := out.writeBody(buf[:n]); werr != nil {
				return werr
			}
			// The next read may take forever, and the peer may wait for this.
			if werr := out.flush(); werr != nil {
				return werr
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			if req.ContentLength > 0 && sent < req.ContentLength {
				return &requestBodyError{fmt.Errorf("body ended after %d of %d bytes: %w", sent, req.ContentLength, io.ErrUnexpectedEOF)}
			}
			return nil
		case err != nil:
			return &requestBodyError{err}
		}
	}
}

// readResponse reads header sections until the final one.
func (s *clientStream) readResponse(req *http.Request) (*http.Response, error) {
	for {
		ev, err := s.src.next()
		if err != nil {
			return nil, err
		}
		if ev.Kind == h3frame.EventHead {
			return s.newResponse(req, ev.Response), nil
		}
	}
}

func (s *clientStream) newResponse(req *http.Request, head *h3frame.ResponseHead) *http.Response {
	tlsState := s.conn.h3.quic.ConnectionState().TLS
	resp := &http.Response{
		Status:        fmt.Sprintf("%d %s", head.Status, http.StatusText(head.Status)),
		StatusCode:    head.Status,
		Proto:         "HTTP/3.0",
		ProtoMajor:    3,
		Header:        head.Header,
		ContentLength: declaredLength(head.Header),
		Request:       req,
		TLS:           &tlsState,
		Trailer:       announcedTrailer(head.Header),
	}
	body := newMessageBody(s.src, resp.Trailer, h3frame.ErrCodeRequestCancelled)
	body.refused = s.refused
	body.onEnd = func(err error) {
		code := h3frame.ErrCodeRequestCancelled
		if errors.Is(err, io.EOF) {
			code = h3frame.ErrCodeNoError // the answer is whole: the peer needs no more of the request
		}
		s.stopSending(code)
		var frameErr *h3frame.FrameError
		if errors.As(err, &frameErr) && frameErr.ConnectionError() {
			go s.conn.h3.fail(frameErr)
		}
		s.end()
	}
	resp.Body = &responseBody{messageBody: body, ctx: s.ctx}
	if s.src.msg.ContentLength() == 0 && (req.Method == http.MethodHead || !bodyAllowed(head.Status)) {
		go func() {
			_, _ = io.Copy(io.Discard, body)
			_ = body.Close()
		}()
		resp.Body = http.NoBody
	}
	return resp
}

// declaredLength is the Content-Length of a header that h3frame has checked, -1 if
// there is none.
func declaredLength(h http.Header) int64 {
	n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// A responseBody reports the end of the request's context as its own error.
type responseBody struct {
	*messageBody
	ctx context.Context
}

func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.messageBody.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && b.ctx.Err() != nil {
		err = context.Cause(b.ctx)
	}
	return n, err
}

// requestHead is the header section of req.
func requestHead(req *http.Request) h3frame.RequestHead {
	head := h3frame.RequestHead{
		Method:    req.Method,
		Scheme:    req.URL.Scheme,
		Authority: req.Host,
		Path:      req.URL.RequestURI(),
		Header:    req.Header.Clone(),
	}
	if head.Method == "" {
		head.Method = http.MethodGet
	}
	if head.Authority == "" {
		head.Authority = req.URL.Host
	}
	if ascii, err := httpguts.PunycodeHostPort(head.Authority); err == nil {
		head.Authority = ascii
	}
	if head.Header == nil {
		head.Header = make(http.Header)
	}
	head.Header.Del("Host")
	head.Header.Del("Content-Length")
	switch {
	case req.ContentLength > 0:
		head.Header.Set("Content-Length", fmt.Sprint(req.ContentLength))
	case req.Body == nil || req.Body == http.NoBody:
		if head.Method == http.MethodPost || head.Method == http.MethodPut || head.Method == http.MethodPatch {
			head.Header.Set("Content-Length", "0")
		}
	}
	if agent, set := head.Header["User-Agent"]; !set {
		head.Header.Set("User-Agent", userAgent)
	} else if len(agent) == 0 || agent[0] == "" {
		head.Header.Del("User-Agent") // set empty means: send none, as in net/http
	}
	for name := range req.Trailer {
		head.Header.Add("Trailer", name)
	}
	return head
}

const userAgent = "tailfin"
