package tailfin

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// A peer may close a connection with H3_NO_ERROR right behind an answer, without
// a GOAWAY ahead. What has left for it by then is lost, and whether it was acted on
// nobody knows: a POST must not be sent again (RFC 9110 §9.2.2). The one remedy is
// not to send it: a connection gets no more requests than its peer answers on one.
//
//	unknown   ── a connection is still open, a linger after its one answer ──▶ unbounded
//	unbounded ── closed behind its n-th answer, without GOAWAY ──▶ at most n
//	at most n ── a connection is still open, a linger after its n-th answer ──▶ unbounded
//
// Unknown is at most 1, so that nothing is lost while the habit is learned.

// How long after the answers a close counts as brought by them. A peer that is slow to
// answer is slow to close.
const (
	minLinger    = time.Second
	maxLinger    = 10 * time.Second
	lingerFactor = 8 // times what the connection took from its making to its last answer
)

// closeDelay is how long a connection that is spent stays open, if it is not the
// probe. A close takes back what quic-go (v0.65.0) has not sent yet: the STOP_SENDING of
// a request that was given up, without which its peer works on.
const closeDelay = 100 * time.Millisecond

// linger is how long a close counts as brought by the answers, for a connection that has become idle. The caller holds c.mu.
func (c *clientConn) linger() time.Duration {
	took := min(c.idleSince.Sub(c.made), maxLinger)
	return min(minLinger+lingerFactor*took, maxLinger)
}

// closeHabits remembers how many requests the connections to an authority may
// carry. It keeps the authorities used last.
type closeHabits struct {
	mu     sync.Mutex
	limits *simplelru.LRU[string, int] // 0 is no limit
}

func (h *closeHabits) entries() *simplelru.LRU[string, int] {
	if h.limits == nil {
		h.limits, _ = simplelru.NewLRU[string, int](DefaultMaxAuthorities, nil) // fails for a size below 1 only
	}
	return h.limits
}

// limit is how many requests a connection may carry, 0 for any number.
func (h *closeHabits) limit(authority string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n, known := h.entries().Get(authority); known {
		return n
	}
	return 1
}

// learn remembers a limit.
func (h *closeHabits) learn(authority string, limit int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.entries().Add(authority, limit)
}

// connLimit is how many requests a connection to authority may carry, 0 for any
// number.
func (t *Transport) connLimit(authority string) int {
	if !t.LearnCloses {
		return 0
	}
	return t.habits.limit(authority)
}

// learnClose learns from a connection that is over.
func (t *Transport) learnClose(c *clientConn) {
	if !t.LearnCloses {
		return
	}
	<-c.uniRead // a GOAWAY may have come with the close
	var graceful *GracefulClose
	if !errors.As(classify(context.Cause(c.h3.quic.Context()), Progress{}), &graceful) || c.h3.goAwayReceived() {
		return
	}
	if n := c.answersAtClose(); n > 0 {
		t.habits.learn(c.authority, n)
	}
}

// answersAtClose is how many answers had arrived whole when the peer closed, 0 if
// the close was not brought by them.
func (c *clientConn) answersAtClose() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.active == 0 && time.Since(c.idleSince) > c.linger() {
		return 0
	}
	n := c.answers
	for _, s := range c.streams {
		if s.src.recv.finished.Load() {
			n++ // drained, and not read yet
		}
	}
	return n
}

// spent tells a connection that has carried all the requests it may.
func (c *clientConn) spent(limit int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return limit > 0 && c.taken >= limit
}

// atRest is told of a connection that has become idle. One that is spent leaves
// the pool, and the first such stays open for a while: it is the probe that shows
// whether the peer closes.
func (t *Transport) atRest(c *clientConn) {
	if !t.LearnCloses {
		return
	}
	spent := c.spent(t.connLimit(c.authority))
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hosts[c.authority]
	if h == nil {
		return
	}
	defer h.roomMade()
	i := slices.Index(h.conns, c)
	if !spent || i < 0 {
		return
	}
	h.conns = slices.Delete(h.conns, i, i+1)
	if h.probe != nil {
		time.AfterFunc(closeDelay, c.closeWhenIdle)
		return
	}
	h.probe = c
	c.mu.Lock()
	linger := c.linger()
	c.mu.Unlock()
	time.AfterFunc(linger, func() { t.survived(c) })
}

// survived is called a linger after c became the probe.
func (t *Transport) survived(c *clientConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hosts[c.authority]
	if h == nil || h.probe != c {
		return
	}
	h.probe = nil
	switch {
	case !c.usable():
	case len(h.conns) < max(t.MaxConnsPerHost, 1):
		t.habits.learn(c.authority, 0)
		h.conns = append(h.conns, c)
	default:
		t.habits.learn(c.authority, 0)
		c.closeWhenIdle()
	}
	h.roomMade()
	t.trim(c.authority, h)
}

// room returns what ends when there may be room for one more connection, or on
// one. The caller holds the Transport's mutex.
func (h *hostPool) room() *dialCall {
	if h.waiting == nil {
		h.waiting = &dialCall{made: make(chan struct{})}
	}
	return h.waiting
}

// roomMade wakes who waits for room. The caller holds the Transport's mutex.
func (h *hostPool) roomMade() {
	if h.waiting != nil {
		close(h.waiting.made)
		h.waiting = nil
	}
}
