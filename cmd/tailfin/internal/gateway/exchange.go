package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/accesslog"
)

// An exchange is one request with its answer, for the metrics and the access line.
type exchange struct {
	start    time.Time
	asked    atomic.Int32 // for a connection
	tries    atomic.Int32 // connections got
	fresh    atomic.Int32 // of these, new ones
	received atomic.Int64 // body bytes from the client
	sent     atomic.Int64 // body bytes to the client
	interim  atomic.Int32 // responses of 1xx by the upstream
	status   atomic.Int32 // of the answer; 0 before it

	mu       sync.Mutex
	outcome  tailfin.Outcome // of the upstream
	sentTo   bool            // the upstream was asked
	protocol string          // of the answer
	headSecs float64         // to the response's header section
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// end notes how the upstream's part ended. The last call counts.
func (x *exchange) end(o tailfin.Outcome) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.outcome, x.sentTo = o, true
}

// trace counts connections.
func (x *exchange) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { x.asked.Add(1) },
		GotConn: func(info httptrace.GotConnInfo) {
			x.tries.Add(1)
			if !info.Reused {
				x.fresh.Add(1)
			}
		},
		// net/http bounds them only where nobody asks for them, as ReverseProxy does.
		Got1xxResponse: func(int, textproto.MIMEHeader) error {
			if x.interim.Add(1) > maxInterim {
				return errInterim
			}
			return nil
		},
	}
}

// maxInterim bounds the interim responses to one request. Clients may have bounds too:
// tailfin.Transport takes 100.
const maxInterim = 50

// ServeHTTP forwards one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{start: time.Now()}
	g.metrics.inFlight.Inc()
	defer func() {
		g.metrics.inFlight.Dec()
		g.metrics.ended(x)
		x.log(r.Context())
	}()
	a := &answer{ResponseWriter: w, x: x, ctx: r.Context()}
	if status, err := g.refusal(r); err != nil {
		refuse(a, r, status, err)
		return
	}
	ctx := context.WithValue(r.Context(), exchangeKey{}, x)
	if ctx.Value(http.ServerContextKey) == nil {
		// ReverseProxy looks for it before it aborts an answer: without, one that was
		// cut short would end in good order (Go 1.26).
		ctx = context.WithValue(ctx, http.ServerContextKey, forServer)
	}
	ctx = httptrace.WithClientTrace(ctx, x.trace())
	out := r.WithContext(ctx)
	cleanTrailer(r.Trailer)
	if r.Body != nil && r.Body != http.NoBody {
		body := r.Body
		if limit := g.maxBody.Load(); limit > 0 {
			body = http.MaxBytesReader(w, body, limit)
		}
		out.Body = &requestBody{ReadCloser: body, x: x, trailer: r.Trailer}
	}
	g.proxy.ServeHTTP(a, out)
}

// forServer stands for the server of a request that a tailfin.Server has got.
var forServer = &http.Server{} //nolint:gosec // it serves nothing

// log has the access line say what became of the request.
func (x *exchange) log(ctx context.Context) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.sentTo {
		return
	}
	attrs := []slog.Attr{
		slog.String("class", x.outcome.Class.String()), slog.String("phase", x.outcome.Phase.String()),
		slog.String("upstream", x.protocol), slog.Int("tries", int(x.tries.Load())),
	}
	accesslog.Add(ctx, attrs...)
}

// roundTrip sends the request of an exchange, if the breaker lets it.
func (g *Gateway) roundTrip(req *http.Request) (*http.Response, error) {
	x := exchangeOf(req.Context())
	authority := g.upstream.authority()
	done, err := g.breaker.Allow(authority)
	if err != nil {
		return nil, err
	}
	probing := g.breaker.State(authority) == gobreaker.StateHalfOpen
	resp, err := g.replay.RoundTrip(req)
	if err != nil {
		err = ofClient(req.Context(), err, tailfin.PhaseHeaders)
		o := outcomeOf(err)
		done(o)
		x.end(o)
		return nil, err
	}
	x.mu.Lock()
	x.protocol, x.headSecs = protocolName(resp.ProtoMajor), time.Since(x.start).Seconds()
	x.mu.Unlock()
	if probing {
		// The answer may go on for hours, and the others wait for the verdict.
		done(tailfin.OutcomeOf(nil))
		done = func(tailfin.Outcome) {}
	}
	x.end(tailfin.OutcomeOf(nil))
	resp.Body = &responseBody{ReadCloser: resp.Body, x: x, ctx: req.Context(), done: sync.OnceFunc(func() {
		x.mu.Lock()
		o := x.outcome
		x.mu.Unlock()
		done(o)
	})}
	return resp, nil
}

// ofClient makes an error what it is if the client has ended the request. net/http
// returns the cause, which speaks of the client's connection and not of the upstream's.
func ofClient(ctx context.Context, err error, phase tailfin.Phase) error {
	var given *tailfin.Cancelled
	if ctx.Err() == nil || errors.As(err, &given) {
		return err
	}
	return &tailfin.Cancelled{Progress: tailfin.Progress{Phase: phase}, Err: context.Cause(ctx)}
}

func protocolName(major int) string {
	switch major {
	case 1:
		return "http/1.1"
	case 2:
		return "h2"
	case 3:
		return "h3"
	}
	return "none"
}

// modifyResponse leaves out of a response what is not for the client.
func (g *Gateway) modifyResponse(resp *http.Response) error {
	resp.Header.Del("Alt-Svc") // it speaks of the upstream's ports
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols:
		return errSwitched
	case resp.StatusCode < http.StatusOK: // net/http takes 000 to 099 too
		return errStatus
	}
	return nil
}

// What an upstream over HTTP/1.1 or HTTP/2 can do wrong that net/http lets pass.
var (
	errSwitched = errors.New("the upstream switched protocols, which it was not asked to")
	errStatus   = errors.New("the upstream answered with a status that there is not")
	errInterim  = fmt.Errorf("the upstream sent more than %d interim responses", maxInterim)
)

// brokeRules tells an error of those.
func brokeRules(err error) bool {
	return errors.Is(err, errSwitched) || errors.Is(err, errStatus) || errors.Is(err, errInterim)
}

// A requestBody is what the client sends. Its errors are the client's, whatever
// connection they speak of: they must not count for one of the upstream's.
type requestBody struct {
	io.ReadCloser
	x       *exchange
	trailer http.Header // filled at the end
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.x.received.Add(int64(n))
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		cleanTrailer(b.trailer)
	default:
		err = &tailfin.RequestBodyError{Progress: tailfin.Progress{Phase: tailfin.PhaseHeaders}, Err: err}
	}
	return n, err
}

// A responseBody is what the upstream sends.
type responseBody struct {
	io.ReadCloser
	x    *exchange
	ctx  context.Context
	done func() // tells the breaker, once
}

func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		b.done()
	default:
		err = ofClient(b.ctx, err, tailfin.PhaseBody)
		b.x.end(bodyOutcome(err))
		b.done()
		accesslog.Fail(b.ctx, err)
	}
	return n, err
}

// Close ends a body, or gives it up: then the client has left.
func (b *responseBody) Close() error {
	err := b.ReadCloser.Close()
	b.done()
	return err
}

// An answer is the ResponseWriter that ReverseProxy gets.
type answer struct {
	http.ResponseWriter
	x   *exchange
	ctx context.Context
}

// WriteHeader passes on what is for the client.
func (a *answer) WriteHeader(status int) {
	h := a.Header()
	switch {
	case status == http.StatusContinue:
		return // the server sends its own when the body is asked for
	case status < http.StatusOK:
		h.Del("Alt-Svc")
	case a.x.status.CompareAndSwap(0, int32(status)):
		if _, typed := h["Content-Type"]; !typed {
			h["Content-Type"] = nil // what the upstream did not say is not to be guessed
		}
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write sends part of the body.
func (a *answer) Write(p []byte) (int, error) {
	n, err := a.ResponseWriter.Write(p)
	a.x.sent.Add(int64(n))
	if err != nil {
		a.x.end(tailfin.Outcome{Class: tailfin.ClassCancelled, Phase: tailfin.PhaseBody, Breaker: tailfin.Ignored})
		accesslog.Fail(a.ctx, err)
	}
	return n, err
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
