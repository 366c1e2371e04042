package accesslog

import (
	"context"
	"log/slog"
	"sync"
)

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
