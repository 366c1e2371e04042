package tailfin

import (
	"errors"
	"net/http"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// maxSessions bounds the authorities whose SETTINGS are remembered for 0-RTT.
const maxSessions = 1000

// sessionSettings remembers the SETTINGS of sessions that may be resumed with
// 0-RTT data, by authority (RFC 9114 §7.2.4.2).
type sessionSettings struct {
	mu  sync.Mutex
	lru *simplelru.LRU[string, h3frame.Settings]
}

func (s *sessionSettings) get(authority string) (h3frame.Settings, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lru == nil {
		return h3frame.Settings{}, false
	}
	return s.lru.Get(authority)
}

func (s *sessionSettings) put(authority string, settings h3frame.Settings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lru == nil {
		s.lru, _ = simplelru.NewLRU[string, h3frame.Settings](maxSessions, nil) // fails for a size below 1 only
	}
	s.lru.Add(authority, settings)
}

// gotSettings holds the peer's SETTINGS against those that 0-RTT data was sent
// under, if it accepted that data, and remembers them for the next session.
func (c *clientConn) gotSettings(now h3frame.Settings) error {
	if !c.transport.EarlyData {
		return nil
	}
	if c.early && c.h3.quic.ConnectionState().Used0RTT {
		if before, ok := c.transport.sessions.get(c.authority); ok {
			if err := before.CheckResumed(now); err != nil {
				return err
			}
		}
	}
	c.transport.sessions.put(c.authority, now)
	return nil
}

// mayBeEarly tells a request that may go out as 0-RTT data: of a safe method
// (RFC 9110 §9.2.1), as an attacker may have it replayed (RFC 8470 §4), and
// without a body.
func mayBeEarly(req *http.Request) bool {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return req.Body == nil || req.Body == http.NoBody
	}
	return false
}

// EarlyDataRejected is a request that went out as 0-RTT data and that the peer
// has refused to look at. It is sent again by itself, after the handshake.
type EarlyDataRejected struct {
	Progress
	Err error
}

func (e *EarlyDataRejected) Error() string { return "tailfin: the peer rejected 0-RTT data" }

func (e *EarlyDataRejected) Unwrap() error { return e.Err }

// earlyRejected gives the connection up: quic-go (v0.65.0) could go on with it by
// Conn.NextConnection, but without the streams that were open, the control stream
// among them. The next connection to the authority is made without 0-RTT, as the
// peer would reject it again until it has given out a new ticket.
func (c *clientConn) earlyRejected() error {
	c.transport.dialLate(c.authority)
	c.abandon()
	return &EarlyDataRejected{Progress: Progress{RetrySafe: true}, Err: quic.Err0RTTRejected}
}

func isEarlyRejected(err error) bool { return errors.Is(err, quic.Err0RTTRejected) }
