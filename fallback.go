package tailfin

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"
)

// A Fallback is an http.RoundTripper that sends requests over HTTP/3 to the
// authorities that speak it, and over HTTP/2 or HTTP/1.1 to the others. It learns
// which is which from Alt-Svc and from transport failures, see Capabilities.
//
// A request that met a transport failure goes over HTTP/2 at once if the peer
// cannot have acted on it and its body can be had again. One that met anything
// else keeps its error: a peer that closes gracefully still speaks HTTP/3. A
// request that may have been acted on is sent again only if its method is
// idempotent (RFC 9110 §9.2.2) and its connection was lost, not closed.
//
// The zero value is ready to use; it is safe for concurrent use and must not be
// copied.
type Fallback struct {
	// HTTP3 carries the requests over HTTP/3. Nil means a Transport of its own,
	// which Close closes.
	HTTP3 *Transport
	// Next carries the others. Nil means a clone of http.DefaultTransport.
	Next http.RoundTripper
	// Capabilities may be shared. Nil means one of its own.
	Capabilities *Capabilities
	// TryUnknown tries HTTP/3 with authorities of which nothing is known. Without
	// it HTTP/3 is used only after an Alt-Svc has offered it.
	TryUnknown bool
	// Breaker, if not nil, decides whether a request is sent at all. It is told
	// the request's last outcome, over whichever version.
	Breaker *Breaker
	// Observer, if not nil, is told of every request over HTTP/3, and of every
	// one over HTTP/2 or HTTP/1.1, so that a request that changed over is told twice.
	Observer Observer

	once  sync.Once
	http3 *Transport
	next  http.RoundTripper
	caps  *Capabilities
}

var (
	_ http.RoundTripper = (*Fallback)(nil)
	_ io.Closer         = (*Fallback)(nil)
)

func (f *Fallback) init() {
	f.once.Do(func() {
		if f.http3 = f.HTTP3; f.http3 == nil {
			f.http3 = &Transport{}
		}
		if f.next = f.Next; f.next == nil {
			f.next = http.DefaultTransport
			if tr, ok := f.next.(*http.Transport); ok {
				f.next = tr.Clone()
			}
		}
		if f.caps = f.Capabilities; f.caps == nil {
			f.caps = &Capabilities{}
		}
	})
}

// RoundTrip sends one request, over HTTP/3 if the authority speaks it.
func (f *Fallback) RoundTrip(req *http.Request) (*http.Response, error) {
	f.init()
	authority, err := checkRequest(req)
	if err != nil { // HTTP/3 cannot carry it; a request for http:// is no error
		return f.next.RoundTrip(req)
	}
	done := func(Outcome) {}
	if f.Breaker != nil {
		if done, err = f.Breaker.Allow(authority); err != nil {
			closeRequestBody(req)
			return nil, err
		}
	}
	if !f.useHTTP3(authority) {
		return f.overNext(req, authority, done)
	}
	return f.overHTTP3(req, authority, done)
}

func (f *Fallback) useHTTP3(authority string) bool {
	known, _ := f.caps.Of(authority)
	return known == Supported || known == Unknown && f.TryUnknown
}

func (f *Fallback) overHTTP3(req *http.Request, authority string, done func(Outcome)) (*http.Response, error) {
	start := time.Now()
	try := *req
	var held *heldBody
	if req.Body != nil && req.Body != http.NoBody {
		held = &heldBody{requestBody: requestBody{body: req.Body}}
		try.Body = held
	}
	resp, err := f.http3.RoundTrip(&try)
	latency := time.Since(start)
	if err == nil {
		resp.Request = req
		held.letGo() // the Transport closes it when it is done with it
		f.caps.MarkSupported(authority)
		return f.watch(req.Context(), resp, authority, latency, done), nil
	}
	o := OutcomeOf(err)
	f.observe(authority, o, latency)
	if o.MarksUnsupported {
		f.caps.MarkUnsupported(authority)
	}
	if changesOver(o, req) && req.Context().Err() == nil {
		if again, ok := held.again(req); ok {
			return f.overNext(again, authority, done)
		}
	}
	held.letGo()
	done(o)
	return nil, err
}

// changesOver tells a request that HTTP/2 should carry after HTTP/3 has failed
// it: its connection was never made, or was lost and the request may be sent twice.
func changesOver(o Outcome, req *http.Request) bool {
	switch o.Class {
	case ClassDialRefused, ClassDialHandshake, ClassDialTimeout:
		return true
	case ClassTransportClose, ClassIdleTimeout, ClassStatelessReset:
		return o.RetrySafe || o.Phase == PhaseHeaders && idempotent(req)
	}
	return false
}

func (f *Fallback) overNext(req *http.Request, authority string, done func(Outcome)) (*http.Response, error) {
	start := time.Now()
	resp, err := f.next.RoundTrip(req)
	latency := time.Since(start)
	if err != nil {
		if ctx := req.Context(); ctx.Err() != nil {
			// Its cause may be any error, one of another connection too: a request that
			// is forwarded ends as its client's does.
			err = cancelled(ctx, Progress{Phase: PhaseHeaders})
		}
		o := outcomeOfNext(err)
		f.observe(authority, o, latency)
		done(o)
		return nil, err
	}
	return f.watch(req.Context(), resp, authority, latency, done), nil
}

// outcomeOfNext is OutcomeOf for an error in place of a response: an EOF there is
// a connection that was lost.
func outcomeOfNext(err error) Outcome {
	if o := OutcomeOf(err); o.Class != ClassSuccess {
		return o
	}
	return outcomeRows[outcomeKey{ClassOther, PhaseBeforeWire}]
}

func (f *Fallback) observe(authority string, o Outcome, latency time.Duration) {
	if f.Observer != nil {
		f.Observer.Observe(authority, o, latency)
	}
}

// watch learns from the response, and reports its end, once.
func (f *Fallback) watch(ctx context.Context, resp *http.Response, authority string, latency time.Duration, done func(Outcome)) *http.Response {
	_ = f.caps.Learn(authority, resp.Header.Values("Alt-Svc")) // a malformed one is as good as none
	var once sync.Once
	end := func(err error) {
		once.Do(func() {
			o := OutcomeOf(err)
			if o.MarksUnsupported {
				f.caps.MarkUnsupported(authority)
			}
			f.observe(authority, o, latency)
			done(o)
		})
	}
	if resp.Body == nil || resp.Body == http.NoBody {
		end(nil)
		return resp
	}
	watched := &watchedBody{ReadCloser: resp.Body, ctx: ctx, end: end}
	resp.Body = watched
	if w, ok := watched.ReadCloser.(io.Writer); ok { // 101 Switching Protocols
		resp.Body = struct {
			*watchedBody
			io.Writer
		}{watched, w}
	}
	return resp
}

// A watchedBody reports how a body ended.
type watchedBody struct {
	io.ReadCloser
	ctx context.Context // of the request
	end func(error)
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		if err != io.EOF && b.ctx.Err() != nil { //nolint:errorlint // a Read returns it as it is; wrapped it is a lost connection of HTTP/1
			err = cancelled(b.ctx, Progress{Phase: PhaseBody})
		}
		b.end(err)
	}
	return n, err
}

// Close reports a body that is given up. Whoever stops reading has said nothing
// against the peer.
func (b *watchedBody) Close() error {
	err := b.ReadCloser.Close()
	b.end(&Cancelled{Progress: Progress{Phase: PhaseBody}, Err: ErrBodyClosed})
	return err
}

// A heldBody is a request body that stays open while it is held and nobody has
// read it, so that another RoundTripper can have it.
type heldBody struct {
	requestBody

	mu     sync.Mutex
	free   bool // not held any more
	wanted bool // Close was called while it was held
}

func (b *heldBody) Close() error {
	b.mu.Lock()
	b.wanted = true
	hold := !b.free
	b.mu.Unlock()
	if hold && !b.used() {
		return nil
	}
	return b.requestBody.Close()
}

// letGo makes Close close the body, and does so if it was called before.
func (b *heldBody) letGo() {
	if b == nil {
		return
	}
	b.mu.Lock()
	b.free = true
	wanted := b.wanted
	b.mu.Unlock()
	if wanted {
		_ = b.requestBody.Close()
	}
}

// again returns req with its body at the start, if that can be.
func (b *heldBody) again(req *http.Request) (*http.Request, bool) {
	if b == nil {
		return req, true
	}
	if _, ok := b.reclaim(); ok {
		return req, true
	}
	if req.GetBody == nil {
		return nil, false
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, false
	}
	b.letGo()
	again := *req
	again.Body = body
	return &again, true
}

// CloseIdleConnections closes the connections that carry no request.
func (f *Fallback) CloseIdleConnections() {
	f.init()
	f.http3.CloseIdleConnections()
	if c, ok := f.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// Close closes the idle connections, and HTTP3 if it was not given.
func (f *Fallback) Close() error {
	f.CloseIdleConnections()
	if f.HTTP3 == nil {
		return f.http3.Close()
	}
	return nil
}
