package tailfin

import (
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// maxTries bounds how often a request is sent. What comes back unprocessed from a
// connection on which the peer has taken others does not count: a peer that serves
// few requests a connection serves this one in its turn.
const maxTries = 3

// RoundTrip sends one request and returns its answer once the header section
// has arrived. The context of the request bounds all of it, the body included.
// Its errors are those of this package where a connection was concerned.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	try, err := t.newTry(req)
	if err != nil {
		closeRequestBody(req)
		return nil, err
	}
	for n := 1; ; n++ {
		resp, err := t.once(try)
		if err != nil && try.sentBack(err) {
			n--
		}
		try.leaveRejecting(err)
		switch {
		case err == nil && !try.tooEarly(resp):
			return resp, nil
		case err == nil:
			_ = resp.Body.Close()
			try.need.early = false // RFC 8470 §5.2: not as early data again
			continue
		case n >= maxTries || !t.mayRetry(req, err):
			try.stopBody()
			return nil, err
		}
		if !try.rewind() {
			return nil, err
		}
	}
}

// sentBack tells a request that waits for its turn, see maxTries.
func (try *requestTry) sentBack(err error) bool {
	var graceful *GracefulClose
	return errors.As(err, &graceful) && graceful.RetrySafe && try.conn != nil && try.conn.served()
}

// leaveRejecting takes further requests, this one again among them, off a connection
// on which the peer has rejected one: it is about to close, though its GOAWAY may not
// have come yet, or has too much to do there.
func (try *requestTry) leaveRejecting(err error) {
	var reset *StreamReset
	if errors.As(err, &reset) && reset.RetrySafe && try.conn != nil {
		try.conn.abandon()
	}
}

// tooEarly tells the answer to a request that may have gone out as 0-RTT data and
// must wait for the handshake (RFC 8470 §5.2).
func (try *requestTry) tooEarly(resp *http.Response) bool {
	return resp.StatusCode == http.StatusTooEarly && try.need.early && try.conn.h3.quic.ConnectionState().Used0RTT
}

// mayRetry tells an error after which the request may be sent again.
func (t *Transport) mayRetry(req *http.Request, err error) bool {
	progress, _ := ProgressOf(err)
	var (
		dial     *DialError // all addresses were tried
		refused  *RequestError
		body     *RequestBodyError
		graceful *GracefulClose
	)
	switch {
	case req.Context().Err() != nil, errors.As(err, &dial), errors.As(err, &refused), errors.As(err, &body):
		return false
	case progress.RetrySafe:
		return true
	}
	return t.RetryIdempotent && errors.As(err, &graceful) && progress.Phase == PhaseHeaders && idempotent(req)
}

// idempotent tells a request that may be acted on twice, as net/http does.
func idempotent(req *http.Request) bool {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return req.Header.Get("Idempotency-Key") != "" || req.Header.Get("X-Idempotency-Key") != ""
}

// once sends the request one time, on a pooled connection or a new one.
func (t *Transport) once(try *requestTry) (*http.Response, error) {
	ctx := try.original.Context()
	trace := traceOf(ctx)
	try.conn = nil
	trace.getConn(try.authority)
	if ctx.Err() != nil {
		return nil, cancelled(ctx, Progress{RetrySafe: true})
	}
	conn, str, err := t.openStream(ctx, try.authority, try.need)
	if err != nil {
		return nil, err
	}
	trace.gotConn(conn, str)
	try.conn = conn
	return conn.newClientStream(ctx, str, try).roundTrip()
}

// A requestTry is a request over its tries: what is sent of it, and its body.
type requestTry struct {
	original  *http.Request
	authority string // that is dialed, host:port
	head      h3frame.RequestHead
	fields    []h3frame.Field // of the header section
	need      streamNeed
	gzip      bool // gzip is asked for here, and undone here
	body      *requestBody
	conn      *clientConn // of the last try; nil if it got none
}

func (t *Transport) newTry(req *http.Request) (*requestTry, error) {
	authority, err := checkRequest(req)
	if err != nil {
		return nil, err
	}
	try := &requestTry{original: req, authority: authority}
	if try.head, err = requestHead(req); err != nil {
		return nil, err
	}
	if !t.DisableCompression && wantsGzip(req) {
		try.gzip = true
		try.head.Header.Set("Accept-Encoding", "gzip")
	}
	try.fields = h3frame.RequestFields(try.head)
	try.need = streamNeed{
		fieldsSize: h3frame.FieldSectionSize(try.fields),
		extended:   try.head.Protocol != "",
		early:      t.EarlyData && mayBeEarly(req),
	}
	if req.Body != nil && req.Body != http.NoBody {
		try.body = &requestBody{body: req.Body}
	}
	return try, nil
}

// stopBody closes the body, so that a Read of it that may block ends.
func (try *requestTry) stopBody() { _ = try.body.Close() }

// rewind puts the body back to its start. It reports false if that cannot be.
func (try *requestTry) rewind() bool {
	if try.body == nil {
		return true
	}
	if body, ok := try.body.reclaim(); ok {
		try.body = &requestBody{body: body}
		return true
	}
	try.stopBody()
	if try.original.GetBody == nil {
		return false
	}
	body, err := try.original.GetBody()
	if err != nil {
		return false
	}
	try.body = &requestBody{body: body}
	return true
}

// A requestBody is the body of one try of a request. It knows whether it was
// used, and can be taken from a try that has failed and may not know it yet.
type requestBody struct {
	body io.ReadCloser

	mu   sync.Mutex
	read bool // Read was called
	done bool // closed or reclaimed
}

func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	b.read = true
	done := b.done
	b.mu.Unlock()
	if done {
		return 0, ErrBodyClosed
	}
	return b.body.Read(p)
}

// Close closes the body once. A nil body has nothing to close.
func (b *requestBody) Close() error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	done := b.done
	b.done = true
	b.mu.Unlock()
	if done {
		return nil
	}
	return b.body.Close()
}

// reclaim returns the body if nobody has read or closed it, and keeps others from it.
func (b *requestBody) reclaim() (io.ReadCloser, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.read || b.done {
		return nil, false
	}
	b.done = true
	return b.body, true
}

// used tells whether somebody has begun to read.
func (b *requestBody) used() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.read
}

func closeRequestBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}
