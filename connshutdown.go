package tailfin

import (
	"context"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// The bounds of how long Shutdown leaves a client to close by itself after its last
// answer was sent. Packets of that may have been lost, and be sent again.
const (
	// shutdownLinger is for a connection that is quiet.
	shutdownLinger = 500 * time.Millisecond
	// silentLinger is for one on which packets are sent, and none comes back: the
	// network may be away for a while.
	silentLinger = 5 * time.Second
	// maxShutdownLinger is for any, as with a client that does not stop talking.
	maxShutdownLinger = 10 * time.Second
	// lingerTick is how often a connection is looked at.
	lingerTick = shutdownLinger / 2
)

// The bounds of the time between the two GOAWAY frames, which should be a round trip
// at least (RFC 9114 §5.2). A client that has closed right behind its request never learns
// that it was refused, so there is also time for one on a machine that is busy.
const (
	minGoAwayGrace = 100 * time.Millisecond
	maxGoAwayGrace = time.Second
	// newcomerTick is how often a connection without a request is looked at.
	newcomerTick = 10 * time.Millisecond
)

// shutdown sends GOAWAY and returns once the connection may be closed.
//
// The first GOAWAY excludes no stream: it asks the client to open no more. What is
// on its way meanwhile is answered still. The second, a round trip later, tells
// which streams are the last, and those that come all the same are refused.
func (c *serverConn) shutdown(ctx context.Context) {
	if err := c.h3.sendGoAway(h3frame.MaxRequestStreamID); err != nil {
		return // it is closed already
	}
	if !c.awaitRequest(ctx) {
		return
	}
	grace := min(max(2*c.h3.quic.ConnectionStats().SmoothedRTT, minGoAwayGrace), maxGoAwayGrace)
	if !c.wait(ctx, grace) {
		return
	}
	c.mu.Lock()
	c.leaves = true
	c.next = c.nextRequest()
	next := c.next
	c.mu.Unlock()
	if err := c.h3.sendGoAway(uint64(next)); err != nil {
		return
	}
	if !c.waitIdle(ctx) {
		return
	}
	c.linger(ctx)
}

// awaitRequest gives a client that has not asked for anything yet maxGoAwayGrace to do so: it
// has connected in order to ask, and may leave right behind its request. It reports false if
// ctx or the connection ended first.
func (c *serverConn) awaitRequest(ctx context.Context) bool {
	for began := time.Now(); !c.asked() && time.Since(began) < maxGoAwayGrace; {
		if !c.wait(ctx, newcomerTick) {
			return false
		}
	}
	return true
}

// asked tells whether a request has arrived, or some of it.
func (c *serverConn) asked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nextRequest() > 0
}

// nextRequest is the lowest request stream of which nothing has arrived, accepted or not.
// The caller holds mu.
func (c *serverConn) nextRequest() quic.StreamID {
	return max(c.next, c.h3.barrier.nextRequest())
}

// linger returns once the connection has been quiet for shutdownLinger, and before that
// only if ctx or the connection ends. What was sent last and is not acknowledged has a
// longer time: quic-go sends it again, at growing intervals, and does not say that it waits.
func (c *serverConn) linger(ctx context.Context) {
	began := time.Now()
	heard, quiet, unanswered := began, began, false
	last := c.h3.quic.ConnectionStats()
	for c.wait(ctx, lingerTick) {
		now, stats := time.Now(), c.h3.quic.ConnectionStats()
		received, sent := stats.PacketsReceived != last.PacketsReceived, stats.PacketsSent != last.PacketsSent
		last = stats
		switch {
		case received:
			heard, quiet, unanswered = now, now, false
		case sent:
			quiet, unanswered = now, true
		}
		limit := shutdownLinger
		if unanswered {
			limit, quiet = silentLinger, heard
		}
		if now.Sub(quiet) >= limit || now.Sub(began) >= maxShutdownLinger {
			return
		}
	}
}

// wait returns after d, and reports false if ctx or the connection ended first.
func (c *serverConn) wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-c.h3.quic.Context().Done():
	}
	return false
}

// waitIdle returns once no request is at work, and reports false if ctx ended first.
// Handlers may outlive their connection.
func (c *serverConn) waitIdle(ctx context.Context) bool {
	c.mu.Lock()
	if c.active > 0 && c.idle == nil {
		c.idle = make(chan struct{})
	}
	idle := c.idle
	c.mu.Unlock()
	if idle == nil {
		return true
	}
	select {
	case <-idle:
		return true
	case <-ctx.Done():
		return false
	}
}
