package udp

import (
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv4"
)

// A reader brings packets from a socket.
type reader interface {
	source
	// wait blocks until next may have something, the read deadline has passed
	// (os.ErrDeadlineExceeded), or the socket is closed (net.ErrClosed).
	wait() error
	// setDeadline has a wait look at the gate's deadline, also one under way.
	setDeadline(time.Time) error
	// interrupt ends a wait, and is called once the gate is closed.
	interrupt()
	// wake has a wait look at the inbox. It may be called at any time.
	wake()
	// free gives back what the reader holds. Nobody is in any other call.
	free()
}

// A gate says whether reads may go on at all. It is checked before anything is
// delivered, also what is left of a train: after Close its memory may be gone.
type gate struct {
	closed   atomic.Bool
	deadline atomic.Int64 // of reads, since epoch in nanoseconds; 0 is none
}

// epoch is what deadlines are counted from, on the monotonic clock.
var epoch = time.Now()

// set takes a deadline; the zero time is none.
func (g *gate) set(t time.Time) {
	var d int64
	if !t.IsZero() {
		// Long ago and long ahead saturate in Sub; 0 is taken for none.
		if d = int64(t.Sub(epoch)); d == 0 {
			d = 1
		}
	}
	g.deadline.Store(d)
}

// left is the time until the deadline, false without one.
func (g *gate) left() (time.Duration, bool) {
	d := g.deadline.Load()
	if d == 0 {
		return 0, false
	}
	return time.Duration(d) - time.Since(epoch), true
}

// check returns net.ErrClosed, os.ErrDeadlineExceeded, or nil.
func (g *gate) check() error {
	if g.closed.Load() {
		return net.ErrClosed
	}
	if left, ok := g.left(); ok && left <= 0 {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// A lane is a reader and the splitter behind it. One goroutine at a time reads
// from it; others wait their turn.
type lane struct {
	mu    sync.Mutex
	gate  *gate
	r     reader
	inbox *inbox
	yield *yielder // of whoever has mu
	split splitter
}

func newLane(r reader, c *Conn) *lane {
	l := &lane{gate: &c.gate, r: r, inbox: &c.inbox, yield: &c.yield}
	l.split = splitter{src: l, stats: &c.stats, inspection: inspection{&c.inspectors, &c.stats}}
	return l
}

// next returns what was put into the inbox, and what the reader has.
func (l *lane) next() (packet, bool) {
	if p, ok := l.inbox.next(); ok {
		return p, true
	}
	return l.r.next()
}

// readBatch waits for at least one datagram, and returns as many as are there.
func (l *lane) readBatch(ms []ipv4.Message) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.yield.turn()
	for {
		if err := l.gate.check(); err != nil {
			return 0, err
		}
		if n := l.split.fill(ms); n > 0 {
			l.yield.delivered(n)
			return n, nil
		}
		if err := l.r.wait(); err != nil {
			return 0, err
		}
	}
}

// read waits for one datagram, and cuts it to what there is room for.
func (l *lane) read(p, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.yield.turn()
	for {
		if err := l.gate.check(); err != nil {
			return 0, 0, 0, nil, err
		}
		if n, oobn, flags, addr, ok := l.split.read(p, oob); ok {
			l.yield.delivered(1)
			return n, oobn, flags, addr, nil
		}
		if err := l.r.wait(); err != nil {
			return 0, 0, 0, nil, err
		}
	}
}
