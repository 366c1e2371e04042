package closerace

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"
)

// received counts what quic-go reports to have received on request streams: the
// measure of what must be delivered. It is a tracer of the receiver, and keeps
// its own account, so that a mistake in the barrier's does not hide itself.
type received struct {
	overhead int64 // stream bytes of a message that are not its body

	mu     sync.Mutex
	whole  int   // messages of which every byte and the FIN have come
	bytes  int64 // of bodies, without gaps before them
	opened int   // connections
	over   int   // of them counted
	closed int   // of them gone
}

// config returns conf with the tracer.
func (r *received) config(conf *quic.Config) *quic.Config {
	conf.Tracer = func(context.Context, bool, quic.ConnectionID) qlogwriter.Trace {
		return r.open()
	}
	return conf
}

// open begins the account of a connection.
func (r *received) open() *receivedConn {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opened++
	return &receivedConn{total: r, streams: make(map[int64]*receivedStream)}
}

func (r *received) counts() (whole int, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.whole, r.bytes
}

// wait waits until every connection was counted. quic-go closes a tracer some
// time after the connection.
func (r *received) wait() {
	for start := time.Now(); time.Since(start) < maxCount; time.Sleep(time.Millisecond) {
		r.mu.Lock()
		done := r.closed == r.opened
		r.mu.Unlock()
		if done {
			return
		}
	}
}

// waitFor waits until n connections were counted, and as many as there are.
func (r *received) waitFor(ctx context.Context, n int) {
	for start := time.Now(); time.Since(start) < maxCount && ctx.Err() == nil; time.Sleep(time.Millisecond) {
		r.mu.Lock()
		done := r.opened >= n && r.over == r.opened
		r.mu.Unlock()
		if done {
			return
		}
	}
}

// maxCount bounds the wait for tracers.
const maxCount = 5 * time.Second

// A receivedConn follows one connection to its close.
type receivedConn struct {
	total *received

	mu      sync.Mutex
	streams map[int64]*receivedStream
	over    bool // counted; later frames were not handled
}

// A receivedStream is what has come of a stream, as ranges.
type receivedStream struct {
	ranges [][2]int64
	size   int64
	fin    bool
}

var (
	_ qlogwriter.Trace    = (*receivedConn)(nil)
	_ qlogwriter.Recorder = (*receivedConn)(nil)
)

// AddProducer returns the connection itself.
func (c *receivedConn) AddProducer() qlogwriter.Recorder { return c }

// RecordEvent follows the frames that quic-go has handled.
func (c *receivedConn) RecordEvent(ev qlogwriter.Event) {
	packet, ok := ev.(qlog.PacketReceived)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range packet.Frames {
		switch f := f.Frame.(type) {
		case *qlog.StreamFrame:
			c.add(int64(f.StreamID), f.Offset, f.Length, f.Fin)
		case *qlog.ConnectionCloseFrame:
			c.count()
			return
		}
	}
}

// uniBit tells unidirectional streams (RFC 9000 §2.1).
const uniBit = 2

// add notes a frame. The caller holds mu.
func (c *receivedConn) add(id, offset, length int64, fin bool) {
	if c.over || id&uniBit != 0 {
		return
	}
	s := c.streams[id]
	if s == nil {
		s = &receivedStream{}
		c.streams[id] = s
	}
	s.ranges = append(s.ranges, [2]int64{offset, offset + length})
	if fin {
		s.fin, s.size = true, offset+length
	}
}

// contiguous is the number of bytes without a gap before them.
func (s *receivedStream) contiguous() int64 {
	slices.SortFunc(s.ranges, func(a, b [2]int64) int { return cmp.Compare(a[0], b[0]) })
	end := int64(0)
	for _, r := range s.ranges {
		if r[0] > end {
			break
		}
		end = max(end, r[1])
	}
	return end
}

// count adds the connection to the total, once. The caller holds mu.
func (c *receivedConn) count() {
	if c.over {
		return
	}
	c.over = true
	c.total.mu.Lock()
	defer c.total.mu.Unlock()
	c.total.over++
	for _, s := range c.streams {
		have := s.contiguous()
		if s.fin && have == s.size {
			c.total.whole++
		}
		c.total.bytes += max(0, have-c.total.overhead)
	}
}

// Close is called when the connection is over, with a CONNECTION_CLOSE or not.
func (c *receivedConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count()
	c.total.mu.Lock()
	defer c.total.mu.Unlock()
	c.total.closed++
	return nil
}
