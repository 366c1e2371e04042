package tailfin

import (
	"context"
	"time"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// shutdownLinger is how long Shutdown leaves a client to close by itself after
// its last answer was sent, so that lost packets of it can be sent again.
const shutdownLinger = 500 * time.Millisecond

// The bounds of the time between the two GOAWAY frames, which should be a round trip
// at least (RFC 9114 §5.2).
const (
	minGoAwayGrace = 10 * time.Millisecond
	maxGoAwayGrace = time.Second
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
	grace := min(max(2*c.h3.quic.ConnectionStats().SmoothedRTT, minGoAwayGrace), maxGoAwayGrace)
	if !c.wait(ctx, grace) {
		return
	}
	c.mu.Lock()
	c.leaves = true
	// What has arrived by now is answered, accepted or not.
	c.next = max(c.next, c.h3.barrier.nextRequest())
	next := c.next
	c.mu.Unlock()
	if err := c.h3.sendGoAway(uint64(next)); err != nil {
		return
	}
	if !c.waitIdle(ctx) {
		return
	}
	c.wait(ctx, shutdownLinger)
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
