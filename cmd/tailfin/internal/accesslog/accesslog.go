// Package accesslog writes one line a request.
//
// Handlers below it say what happened by Add and Fail, with the context of the
// request.
package accesslog

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// Handler answers with next and logs each request when it is over: at Warn if
// Fail was called for it, else at Info.
func Handler(next http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		n := &note{}
		rec := &statusWriter{ResponseWriter: w}
		defer func() {
			attrs := []slog.Attr{
				slog.String("peer", r.RemoteAddr), slog.String("method", r.Method), slog.String("path", r.URL.Path),
				slog.Int("status", rec.code()), slog.Int64("sent", rec.sent), slog.Int64("ms", time.Since(start).Milliseconds()),
			}
			level := slog.LevelInfo
			n.mu.Lock()
			attrs = append(attrs, n.attrs...)
			if n.err != nil {
				level = slog.LevelWarn
				attrs = append(attrs, slog.String("err", n.err.Error()))
			}
			n.mu.Unlock()
			log.LogAttrs(r.Context(), level, "request", attrs...)
		}()
		next.ServeHTTP(rec, r.WithContext(context.WithValue(r.Context(), noteKey{}, n)))
	})
}

// Add has the line of the request that ctx belongs to say more.
func Add(ctx context.Context, attrs ...slog.Attr) {
	if n, ok := ctx.Value(noteKey{}).(*note); ok {
		n.mu.Lock()
		n.attrs = append(n.attrs, attrs...)
		n.mu.Unlock()
	}
}

// Fail has the line of the request that ctx belongs to say why it failed. The
// first error counts.
func Fail(ctx context.Context, err error) {
	if n, ok := ctx.Value(noteKey{}).(*note); ok {
		n.mu.Lock()
		if n.err == nil {
			n.err = err
		}
		n.mu.Unlock()
	}
}

type noteKey struct{}

// A note is what the line of one request says beyond its head and status.
type note struct {
	mu    sync.Mutex
	attrs []slog.Attr
	err   error
}

// statusWriter remembers the status and the body bytes of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
	sent   int64
}

// code is the status of the answer, once the handler has returned.
func (w *statusWriter) code() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.sent += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
