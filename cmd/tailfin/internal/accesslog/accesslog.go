// Package accesslog writes one line a request, and counts requests.
//
// Handlers below it say what happened by Add and Fail, with the context of the
// request.
package accesslog

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Mode says which requests get a line.
type Mode int32

// The modes.
const (
	All    Mode = iota // every request
	Errors             // those that Fail was called for, or answered 500 or above
	Off                // none
)

// Log writes access lines and counts requests.
type Log struct {
	log  *slog.Logger
	mode atomic.Int32

	requests *prometheus.CounterVec
	seconds  prometheus.Histogram
	received prometheus.Counter
	sent     prometheus.Counter
}

// New makes a Log that writes to log: at Warn if Fail was called for a request, else
// at Info. Its metrics are registered with reg if that is not nil.
func New(log *slog.Logger, reg prometheus.Registerer) *Log {
	l := &Log{
		log: log,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tailfin_http_requests_total", Help: "Requests whose handler has returned, by method and status.",
		}, []string{"method", "code"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tailfin_http_request_seconds", Help: "Time from a request's header section to the return of its handler.",
			Buckets: prometheus.ExponentialBuckets(0.000_25, 4, 11), // to 262 s
		}),
		received: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tailfin_http_request_body_bytes_total", Help: "Bytes of request bodies that handlers have read.",
		}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tailfin_http_response_body_bytes_total", Help: "Bytes of response bodies that handlers have written.",
		}),
	}
	if reg != nil {
		reg.MustRegister(l.requests, l.seconds, l.received, l.sent)
	}
	return l
}

// SetMode changes which requests get a line.
func (l *Log) SetMode(m Mode) { l.mode.Store(int32(m)) }

// Handler answers with next, and logs and counts each request when it is over.
func (l *Log) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		n := &note{}
		rec := &statusWriter{ResponseWriter: w}
		body := &countingBody{ReadCloser: r.Body}
		aborted := true
		defer func() {
			if aborted {
				Fail(context.WithValue(r.Context(), noteKey{}, n), errAborted)
			}
			took := time.Since(start)
			l.requests.WithLabelValues(methodLabel(r.Method), strconv.Itoa(rec.code())).Inc()
			l.seconds.Observe(took.Seconds())
			l.received.Add(float64(body.n.Load()))
			l.sent.Add(float64(rec.sent))
			l.write(r, rec, n, took)
		}()
		logged := r.WithContext(context.WithValue(r.Context(), noteKey{}, n))
		if r.Body != nil && r.Body != http.NoBody {
			logged.Body = body
		}
		next.ServeHTTP(rec, logged)
		aborted = false
	})
}

// errAborted is a handler that did not return: http.ErrAbortHandler, or a bug, which
// the server logs.
var errAborted = errors.New("the handler gave up: the answer was cut off")

// write writes the line of a request, if it is to have one.
func (l *Log) write(r *http.Request, rec *statusWriter, n *note, took time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	level := slog.LevelInfo
	if n.err != nil {
		level = slog.LevelWarn
	}
	switch Mode(l.mode.Load()) {
	case Off:
		return
	case Errors:
		if n.err == nil && rec.code() < http.StatusInternalServerError {
			return
		}
	}
	if !l.log.Enabled(r.Context(), level) {
		return
	}
	attrs := make([]slog.Attr, 0, 16)
	attrs = append(attrs,
		slog.String("peer", r.RemoteAddr), slog.String("method", r.Method), slog.String("path", r.URL.Path),
		slog.Int("status", rec.code()), slog.Int64("sent", rec.sent), slog.Float64("ms", float64(took.Microseconds())/1000))
	attrs = append(attrs, n.attrs...)
	if n.err != nil {
		attrs = append(attrs, slog.String("err", n.err.Error()))
	}
	l.log.LogAttrs(r.Context(), level, "request", attrs...)
}

// methodLabel bounds the values of the label, since clients may send any method.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return method
	}
	return "other"
}

// countingBody counts the bytes read of a body.
type countingBody struct {
	io.ReadCloser
	n atomic.Int64 // a handler may leave a goroutine behind that reads
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}
