package tailfin

import (
	"context"
	"errors"
	"slices"

	"github.com/quic-go/quic-go"
)

// A hostPool has the connections to one authority that take new requests, and
// the making of the next one. It is guarded by the mutex of its Transport.
type hostPool struct {
	conns   []*clientConn
	dial    *dialCall   // under way, the last begun; nil if it is over
	dials   int         // under way
	late    bool        // 0-RTT was rejected: make the next connection without it
	probe   *clientConn // idle, and open to see whether the peer closes it; see closeHabits
	waiting *dialCall   // for room; nil if nobody waits
}

// A dialCall is a connection that is being made, for all who wait for it. One with
// neither of the others is a wait for room.
type dialCall struct {
	made chan struct{} // closed when one of the others is set
	conn *clientConn   // in the pool, if it still took requests then
	err  error
}

// streamNeed is what a request asks of the connection that carries it.
type streamNeed struct {
	fieldsSize uint64 // of its header section, as RFC 9114 §4.2.2 counts
	extended   bool   // an extended CONNECT (RFC 9220)
	early      bool   // it may go out as 0-RTT data
}

// errFull is a connection on which the peer allows no more streams, while a
// further connection may be made.
var errFull = errors.New("tailfin: the peer allows no more streams")

// openStream returns a new request stream to authority, on a connection that
// counts it as at work. Nothing was sent when it fails.
//
// A connection that ends while the request waits for a stream on it is no
// failure of the request, nor does it count as a try: the peer has served others
// on it meanwhile. One that never carried a request at all is one.
func (t *Transport) openStream(ctx context.Context, authority string, need streamNeed) (*clientConn, *quic.Stream, error) {
	for {
		c, call, err := t.pick(ctx, authority)
		if err != nil {
			return nil, nil, err
		}
		if call != nil {
			select {
			case <-call.made:
			case <-ctx.Done():
				return nil, nil, cancelled(ctx, Progress{RetrySafe: true})
			}
			switch {
			case call.err == nil && call.conn == nil:
				continue
			case call.err == nil && (call.conn.usable() || call.conn.carried.Load()):
				continue
			case call.err == nil:
				return nil, nil, call.conn.goneError()
			}
			if c = t.busyConn(authority); c == nil {
				return nil, nil, call.err
			}
		}
		str, err := c.open(ctx, need)
		if err == nil {
			return c, str, nil
		}
		c.giveBack()
		var gone *connGone
		switch {
		case errors.Is(err, errFull):
		case errors.As(err, &gone):
			t.unpool(c)
			if !c.carried.Load() {
				return nil, nil, gone.err
			}
		default:
			return nil, nil, err
		}
	}
}

// pick reserves a connection to authority, or returns the call that makes one.
func (t *Transport) pick(ctx context.Context, authority string) (*clientConn, *dialCall, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, nil, ErrTransportClosed
	}
	h := t.host(authority)
	most := max(t.MaxConnsPerHost, 1)
	limit := t.connLimit(authority)
	if c := h.best(limit); c != nil && (!c.full.Load() || len(h.conns) >= most) && c.reserve(limit) {
		return c, nil, nil
	}
	switch {
	case limit == 0 && h.dial != nil:
		return nil, h.dial, nil
	case len(h.conns)+h.dials >= most && len(h.conns)+h.dials > 0:
		return nil, h.room(), nil
	}
	h.dials++
	h.dial = &dialCall{made: make(chan struct{})}
	late := h.late
	h.late = false
	// The dial outlives a caller that gives up: others may wait for it.
	go t.dialPooled(context.WithoutCancel(ctx), authority, h.dial, late)
	return nil, h.dial, nil
}

// host returns the pool of an authority. The caller holds mu.
func (t *Transport) host(authority string) *hostPool {
	h := t.hosts[authority]
	if h == nil {
		h = &hostPool{}
		if t.hosts == nil {
			t.hosts = make(map[string]*hostPool)
		}
		t.hosts[authority] = h
	}
	return h
}

// best returns the connection with the fewest requests, one with room first,
// and forgets those that take no more. limit is how many requests one may carry, 0
// for any number. The caller holds the Transport's mutex.
func (h *hostPool) best(limit int) *clientConn {
	h.conns = slices.DeleteFunc(h.conns, func(c *clientConn) bool {
		if c.usable() {
			return false
		}
		c.closeWhenIdle() // finishes what it carries
		return true
	})
	var best *clientConn
	for _, c := range h.conns {
		switch {
		case c.spent(limit):
		case best == nil, best.full.Load() && !c.full.Load():
			best = c
		case best.full.Load() == c.full.Load() && c.load() < best.load():
			best = c
		}
	}
	return best
}

// busyConn reserves a connection to authority with room or without, nil if
// there is none.
func (t *Transport) busyConn(authority string) *clientConn {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hosts[authority]
	if h == nil {
		return nil
	}
	limit := t.connLimit(authority)
	if c := h.best(limit); c != nil && c.reserve(limit) {
		return c
	}
	return nil
}

// mayDial tells whether there may be one more connection to authority.
func (t *Transport) mayDial(authority string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hosts[authority]
	return h != nil && h.dials == 0 && len(h.conns) < max(t.MaxConnsPerHost, 1)
}

func (t *Transport) dialPooled(ctx context.Context, authority string, call *dialCall, late bool) {
	c, err := t.dial(ctx, authority, t.drain(), t.EarlyData && !late)
	t.mu.Lock()
	defer t.mu.Unlock()
	defer close(call.made)
	call.conn, call.err = c, err
	h := t.hosts[authority]
	if h == nil { // Close came meanwhile
		return
	}
	h.dials--
	if h.dial == call {
		h.dial = nil
	}
	h.roomMade()
	switch {
	case err != nil:
	case c.usable():
		h.conns = append(h.conns, c)
	default:
		c.closeWhenIdle()
	}
	t.trim(authority, h)
}

// trim drops a pool with nothing in it. The caller holds mu.
func (t *Transport) trim(authority string, h *hostPool) {
	if len(h.conns) == 0 && h.dials == 0 && !h.late && h.probe == nil {
		delete(t.hosts, authority)
	}
}

// unpool keeps new requests from c.
func (t *Transport) unpool(c *clientConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hosts[c.authority]
	if h == nil {
		return
	}
	if i := slices.Index(h.conns, c); i >= 0 {
		h.conns = slices.Delete(h.conns, i, i+1)
	}
	if h.probe == c {
		h.probe = nil
	}
	h.roomMade()
	t.trim(c.authority, h)
}

// dialLate makes the next connection to authority without 0-RTT.
func (t *Transport) dialLate(authority string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.host(authority).late = true
	}
}

// keep remembers c until it is over, so that Close can end it properly. One
// that comes after Close is closed at once.
func (t *Transport) keep(c *clientConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		go c.close()
		return
	}
	if t.conns == nil {
		t.conns = make(map[*clientConn]struct{})
	}
	t.conns[c] = struct{}{}
	context.AfterFunc(c.h3.quic.Context(), func() {
		t.learnClose(c)
		t.unpool(c)
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.conns, c)
	})
}

// life is a context that ends at Close.
func (t *Transport) life() context.Context {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dialing == nil {
		t.dialing, t.stop = context.WithCancel(context.Background())
		if t.closed {
			t.stop()
		}
	}
	return t.dialing
}

// CloseIdleConnections closes the connections that carry no request, and those
// that do once they carry none. It is what http.Client.CloseIdleConnections calls.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for authority, h := range t.hosts {
		for _, c := range h.conns {
			c.closeWhenIdle()
		}
		h.conns = nil
		if h.probe != nil {
			h.probe.closeWhenIdle()
			h.probe = nil
		}
		h.roomMade()
		t.trim(authority, h)
	}
}
