package tailfin

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// A clientConn is one connection of a Transport.
type clientConn struct {
	transport *Transport
	authority string
	h3        *h3conn
	wire      *wireWatch    // nil if the connection is not traced
	early     bool          // made for 0-RTT: the handshake may still be under way
	uniRead   chan struct{} // closed when the peer's unidirectional streams are read to their end

	carried  atomic.Bool // a request stream was opened on it
	answered atomic.Bool // a final response header section has come on it
	full     atomic.Bool // the peer allowed no more streams when last asked
	lost     atomic.Bool // it takes no more requests, whatever its state says

	mu        sync.Mutex
	active    int  // requests at work, until their body has ended
	taken     int  // requests that were ever at work
	answers   int  // of those, the ones whose answer arrived whole
	lastCall  bool // close when active falls to zero, and take no more
	streams   map[quic.StreamID]*clientStream
	made      time.Time
	idleSince time.Time
	idle      *time.Timer // closes the connection after IdleConnTimeout
}

func newClientConn(t *Transport, authority string, made dialedConn, opts drainOptions) *clientConn {
	c := &clientConn{
		transport: t,
		authority: authority,
		h3:        newH3Conn(made.quic, true, opts, t.logger()),
		wire:      made.wire,
		uniRead:   make(chan struct{}),
		streams:   make(map[quic.StreamID]*clientStream),
	}
	c.made = time.Now()
	c.idleSince = c.made
	c.early = !c.h3.handshakeDone()
	c.h3.onGoAway = c.goAway
	c.h3.onSettings = c.gotSettings
	settings := h3frame.Settings{MaxFieldSectionSize: h3frame.SettingValue(uint64(t.maxHeaderBytes()))}
	if err := c.h3.open(settings); err != nil {
		t.logger().Debug("control stream failed", "peer", made.quic.RemoteAddr().String(), "err", err)
	}
	go func() {
		defer close(c.uniRead)
		c.h3.acceptUniStreams()
	}()
	go c.refuseBidiStreams()
	return c
}

// refuseBidiStreams enforces that a server opens none (RFC 9114 §6.1).
func (c *clientConn) refuseBidiStreams() {
	if _, err := c.h3.barrier.acceptStream(context.Background()); err == nil {
		c.h3.fail(connError(h3frame.ErrCodeStreamCreation, "bidirectional stream from a server"))
	}
}

func (c *clientConn) close() { closeNoError(c.h3.quic) }

// usable tells that new requests may go on the connection.
func (c *clientConn) usable() bool { return !c.lost.Load() && !c.h3.closing() }

// served tells that the peer has answered a request on the connection, or has
// said by its GOAWAY that it will.
func (c *clientConn) served() bool {
	if c.answered.Load() {
		return true
	}
	c.h3.mu.Lock()
	defer c.h3.mu.Unlock()
	return c.h3.goAway != noGoAway && c.h3.goAway > 0
}

// abandon keeps new requests off the connection, and closes it after its last.
func (c *clientConn) abandon() {
	c.lost.Store(true)
	c.transport.unpool(c)
	c.closeWhenIdle()
}

// goAway ends the requests that the peer's GOAWAY covers, and leaves the others
// to finish (RFC 9114 §5.2).
func (c *clientConn) goAway() {
	c.mu.Lock()
	streams := slices.Collect(maps.Values(c.streams))
	c.mu.Unlock()
	for _, s := range streams {
		if s.refused() && !s.headSeen.Load() {
			s.cancel()
		}
	}
	c.transport.unpool(c)
	c.closeWhenIdle()
}

// closeWhenIdle closes the connection once its last request is done.
func (c *clientConn) closeWhenIdle() {
	c.mu.Lock()
	c.lastCall = true
	idle := c.active == 0
	c.mu.Unlock()
	if idle {
		go c.close() // it waits for the run loop
	}
}

// load is the number of requests at work.
func (c *clientConn) load() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.active
}

// reserve counts a request as at work. It fails on a connection that is about
// to be closed, or has carried limit requests, if that is not 0.
func (c *clientConn) reserve(limit int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lastCall || limit > 0 && c.taken >= limit {
		return false
	}
	c.active++
	c.taken++
	if c.idle != nil {
		c.idle.Stop()
	}
	return true
}

// giveBack undoes reserve for a request that was not sent.
func (c *clientConn) giveBack() {
	c.mu.Lock()
	c.taken--
	c.mu.Unlock()
	c.release()
}

// release counts a request as done.
func (c *clientConn) release() {
	c.mu.Lock()
	c.active--
	idle := c.active == 0
	over := idle && c.lastCall
	if idle {
		c.idleSince = time.Now()
		if d := c.transport.IdleConnTimeout; d > 0 && !over {
			c.idle = time.AfterFunc(d, c.closeIdle)
		}
	}
	c.mu.Unlock()
	switch {
	case over:
		go c.close()
	case idle:
		c.transport.atRest(c)
	}
}

// closeIdle is what IdleConnTimeout does. A request that came just before keeps
// the connection open.
func (c *clientConn) closeIdle() {
	c.mu.Lock()
	idle := c.active == 0
	if idle {
		c.lastCall = true
	}
	c.mu.Unlock()
	if idle {
		c.transport.unpool(c)
		c.close()
	}
}

// idleTime returns how long the connection had carried nothing, and whether it
// has carried a request before, to a request that has just reserved it.
func (c *clientConn) idleTime() (idle time.Duration, wasIdle bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.active > 1 {
		return 0, false
	}
	return time.Since(c.idleSince), true
}

func (c *clientConn) track(s *clientStream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streams[s.quic.StreamID()] = s
}

// end counts the request on s as done.
func (c *clientConn) end(s *clientStream) {
	c.mu.Lock()
	delete(c.streams, s.quic.StreamID())
	if s.src.recv.finished.Load() {
		c.answers++
	}
	c.mu.Unlock()
	if c.wire != nil {
		c.wire.forget(s.quic.StreamID())
	}
	c.full.Store(false) // the peer may allow one more for it
	c.release()
}

// connGone is a connection that ended before a request was sent on it.
type connGone struct{ err error }

func (e *connGone) Error() string { return e.err.Error() }
func (e *connGone) Unwrap() error { return e.err }

// goneError is why the connection takes no requests, for one that was not sent.
func (c *clientConn) goneError() error {
	p := Progress{Phase: PhaseBeforeWire, RetrySafe: true}
	ctx := c.h3.quic.Context()
	if c.h3.barrier.closing.Load() {
		<-ctx.Done() // the run loop is about to say which close it was
	}
	if ctx.Err() != nil {
		return classify(context.Cause(ctx), p)
	}
	return &GracefulClose{Progress: p, GoAway: true, Err: errGoAway}
}

var errGoAway = errors.New("GOAWAY received")

// open returns a request stream, and blocks until the peer allows one.
func (c *clientConn) open(ctx context.Context, need streamNeed) (*quic.Stream, error) {
	if err := c.ready(ctx, need); err != nil {
		return nil, err
	}
	str, err := c.h3.quic.OpenStream()
	var limit *quic.StreamLimitReachedError
	if errors.As(err, &limit) {
		c.full.Store(true)
		if c.transport.mayDial(c.authority) {
			return nil, errFull
		}
		str, err = c.waitStream(ctx)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, cancelled(ctx, Progress{RetrySafe: true})
	case err != nil && !c.usable():
		return nil, c.gone(c.goneError())
	case err != nil:
		return nil, c.gone(classify(err, Progress{Phase: PhaseBeforeWire, RetrySafe: true}))
	case !c.usable(): // RFC 9114 §5.2: none after a GOAWAY
		str.CancelRead(quic.StreamErrorCode(h3frame.ErrCodeRequestCancelled))
		str.CancelWrite(quic.StreamErrorCode(h3frame.ErrCodeRequestCancelled))
		return nil, c.gone(c.goneError())
	}
	c.carried.Store(true)
	return str, nil
}

func (c *clientConn) gone(err error) error {
	c.lost.Store(true)
	return &connGone{err}
}

// waitStream waits until the peer allows a stream. A GOAWAY ends the wait.
func (c *clientConn) waitStream(ctx context.Context) (*quic.Stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-c.h3.goAwaySeen:
			cancel()
		case <-done:
		}
	}()
	return c.h3.quic.OpenStreamSync(ctx)
}

// ready waits until the connection can carry what is asked for, and says why it
// cannot.
func (c *clientConn) ready(ctx context.Context, need streamNeed) error {
	if c.early && !need.early {
		if err := c.waitFor(ctx, c.h3.quic.HandshakeComplete()); err != nil {
			return err
		}
	}
	if c.early && c.h3.handshakeDone() && !c.h3.quic.ConnectionState().Used0RTT {
		return c.gone(c.earlyRejected())
	}
	if need.extended {
		if err := c.waitFor(ctx, c.h3.settingsSeen); err != nil {
			return err
		}
	}
	settings := c.peerSettings()
	if need.extended && !settings.EnableConnectProtocol {
		return &RequestError{Err: errNoConnectProtocol}
	}
	if limit := settings.MaxFieldSectionSize; limit != nil && need.fieldsSize > *limit {
		return &RequestError{Err: &FieldSectionError{Size: need.fieldsSize, Limit: *limit}}
	}
	return nil
}

func (c *clientConn) waitFor(ctx context.Context, event <-chan struct{}) error {
	select {
	case <-event:
		return nil
	case <-c.h3.quic.Context().Done():
		return c.gone(c.goneError())
	case <-ctx.Done():
		return cancelled(ctx, Progress{RetrySafe: true})
	}
}

// peerSettings are the peer's SETTINGS or, before they have come, those of the
// session that 0-RTT data is sent under (RFC 9114 §7.2.4.2).
func (c *clientConn) peerSettings() h3frame.Settings {
	select {
	case <-c.h3.settingsSeen:
		return c.h3.peerSettings()
	default:
	}
	if c.early {
		if s, ok := c.transport.sessions.get(c.authority); ok {
			return s
		}
	}
	return h3frame.Settings{}
}
