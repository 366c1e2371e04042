package closerace

import (
	"context"
	"log/slog"

	"golang.org/x/net/quic"
)

// An xnetTrace is what received is for quic-go, for x/net/quic: the handler of its qlog.
// x/net/quic (v0.62.0) derives a logger for each connection, and logs the frames of a
// packet before it handles them.
type xnetTrace struct {
	total *received
	conn  *receivedConn // nil until the logger is that of a connection
}

var _ slog.Handler = (*xnetTrace)(nil)

// logger is what a quic.Config takes as QLogLogger.
func (r *received) logger() *slog.Logger { return slog.New(&xnetTrace{total: r}) }

// Enabled asks for packets with their frames.
func (t *xnetTrace) Enabled(_ context.Context, level slog.Level) bool {
	return level >= quic.QLogLevelFrame
}

// WithAttrs begins the account of a connection.
func (t *xnetTrace) WithAttrs([]slog.Attr) slog.Handler {
	if t.conn != nil {
		return t
	}
	return &xnetTrace{total: t.total, conn: t.total.open()}
}

// WithGroup returns the trace itself.
func (t *xnetTrace) WithGroup(string) slog.Handler { return t }

// Handle follows the packets that were received, and the end.
func (t *xnetTrace) Handle(_ context.Context, r slog.Record) error {
	if t.conn == nil {
		return nil
	}
	switch r.Message {
	case "transport:packet_received":
		r.Attrs(func(a slog.Attr) bool {
			frames, ok := a.Value.Any().([]slog.Value)
			if a.Key != "frames" || !ok {
				return true
			}
			t.conn.mu.Lock()
			defer t.conn.mu.Unlock()
			for _, f := range frames {
				t.conn.frame(f.Resolve())
			}
			return false
		})
	case "connectivity:connection_closed":
		return t.conn.Close()
	}
	return nil
}

// frame notes a frame of x/net/quic's log. The caller holds mu.
func (c *receivedConn) frame(f slog.Value) {
	if f.Kind() != slog.KindGroup {
		return
	}
	var kind string
	var id, offset, length int64
	var fin bool
	for _, a := range f.Group() {
		switch a.Key {
		case "frame_type":
			kind = a.Value.String()
		case "stream_id":
			id = int64(a.Value.Uint64())
		case "offset":
			offset = a.Value.Int64()
		case "length":
			length = a.Value.Int64()
		case "fin":
			fin = a.Value.Bool()
		}
	}
	switch kind {
	case "stream":
		c.add(id, offset, length, fin)
	case "connection_close":
		c.count()
	}
}
