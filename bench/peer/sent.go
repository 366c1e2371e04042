package peer

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"

	"golang.org/x/net/quic"
)

// A finWatch tells when a connection of x/net/quic has sent a FIN: it is the
// connection's qlog. A close that comes earlier takes back what was not sent,
// and a benchmark would count that as lost by the receiver.
//
// x/net/quic (v0.62.0) logs a packet on the goroutine that sends it, just
// before it does.
type finWatch struct {
	once sync.Once
	sent chan struct{}
}

func newFINWatch() *finWatch { return &finWatch{sent: make(chan struct{})} }

// logger is what a quic.Config takes as QLogLogger.
func (w *finWatch) logger() *slog.Logger { return slog.New(w) }

var _ slog.Handler = (*finWatch)(nil)

// Enabled asks for packets with their frames.
func (w *finWatch) Enabled(_ context.Context, level slog.Level) bool {
	return level >= quic.QLogLevelFrame
}

// Handle looks for a STREAM frame with FIN in a packet that was sent.
func (w *finWatch) Handle(_ context.Context, r slog.Record) error {
	if r.Message != "transport:packet_sent" {
		return nil
	}
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "frames" {
			return true
		}
		frames, ok := a.Value.Any().([]slog.Value)
		if !ok {
			return true
		}
		for _, f := range frames {
			if isFIN(f.Resolve()) {
				w.once.Do(func() { close(w.sent) })
			}
		}
		return false
	})
	return nil
}

// isFIN tells a STREAM frame with FIN from other frames.
func isFIN(frame slog.Value) bool {
	if frame.Kind() != slog.KindGroup {
		return false
	}
	var stream, fin bool
	for _, a := range frame.Group() {
		switch a.Key {
		case "frame_type":
			stream = a.Value.String() == "stream"
		case "fin":
			fin = a.Value.Kind() == slog.KindBool && a.Value.Bool()
		}
	}
	return stream && fin
}

// A finWatches makes a finWatch for each connection of a server, by the port of
// the client. x/net/quic derives a logger for each connection and begins its log
// with the addresses.
type finWatches struct {
	finWatch // of no connection
	byPort   *sync.Map
}

func newFINWatches() *finWatches { return &finWatches{byPort: new(sync.Map)} }

func (w *finWatches) logger() *slog.Logger { return slog.New(w) }

// WithAttrs makes the watch of a new connection.
func (w *finWatches) WithAttrs([]slog.Attr) slog.Handler {
	return &connWatch{finWatch: finWatch{sent: make(chan struct{})}, byPort: w.byPort}
}

// take returns the watch of a connection, nil if there is none.
func (w *finWatches) take(client netip.AddrPort) *connWatch {
	v, _ := w.byPort.LoadAndDelete(int64(client.Port()))
	watch, _ := v.(*connWatch)
	return watch
}

// A connWatch is the finWatch of one connection of a server.
type connWatch struct {
	finWatch
	byPort *sync.Map
}

// Handle enters the watch under the port of its client, and then watches.
func (w *connWatch) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "connectivity:connection_started" {
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "dst_port" {
				w.byPort.Store(a.Value.Int64(), w)
			}
			return true
		})
	}
	return w.finWatch.Handle(ctx, r)
}

// WithAttrs returns the watch itself: connections add nothing that matters here.
func (w *finWatch) WithAttrs([]slog.Attr) slog.Handler { return w }

// WithGroup returns the watch itself.
func (w *finWatch) WithGroup(string) slog.Handler { return w }
