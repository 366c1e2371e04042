package tailfin

import (
	"bytes"
	"context"
	"crypto/tls"
	"net/http"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// Early data (0-RTT) can be sent again by anyone who has seen it, so that a server
// must not act on it twice where that does harm (RFC 8470 §3, RFC 9001 §9.2). What
// is read before the handshake is complete is early data: no other data can be
// decrypted by then. Once the handshake is complete the client has proven that it
// is there and not a replay, and everything it has sent may be acted on.

// safeMethod tells the methods that ask for no change (RFC 9110 §9.2.1).
func safeMethod(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// admitEarly returns once the request may run: at once, or after the handshake. It
// reports an error if the connection or the request ended first.
func (c *serverConn) admitEarly(req *http.Request) error {
	if c.h3.handshakeDone() {
		return nil
	}
	if safeMethod(req.Method) || c.server.EarlyData != nil && c.server.EarlyData(req) {
		c.server.stats.earlyRun.Add(1)
		return nil
	}
	c.server.stats.earlyHeld.Add(1)
	ctx := req.Context()
	select {
	case <-c.h3.quic.HandshakeComplete():
		req.TLS = c.tlsState() // HandshakeComplete has become true
		return nil
	case <-c.h3.quic.Context().Done():
		return context.Cause(c.h3.quic.Context())
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ticketPrefix marks our SETTINGS among what a session ticket carries.
const ticketPrefix = "tailfin h3 settings:"

// rememberSettings puts our SETTINGS into session tickets, and refuses early data
// from a client that remembers others that we keep no more (RFC 9114 §7.2.4.2).
// Tickets that were made by another process with the same keys show here.
func (s *Server) rememberSettings(conf *tls.Config) {
	settings := s.settings()
	extra := h3frame.AppendSettings([]byte(ticketPrefix), settings)
	wrap, unwrap := conf.WrapSession, conf.UnwrapSession
	if wrap == nil {
		wrap = conf.EncryptTicket
	}
	if unwrap == nil {
		unwrap = conf.DecryptTicket
	}
	conf.WrapSession = func(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
		ss.Extra = append(ss.Extra, bytes.Clone(extra))
		return wrap(cs, ss)
	}
	conf.UnwrapSession = func(identity []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		ss, err := unwrap(identity, cs)
		if err == nil && ss != nil && ss.EarlyData && !ticketFits(ss.Extra, settings) {
			ss.EarlyData = false
		}
		return ss, err
	}
}

// ticketFits tells that the settings in a ticket still hold.
func ticketFits(extra [][]byte, now h3frame.Settings) bool {
	for _, e := range extra {
		frame, ours := bytes.CutPrefix(e, []byte(ticketPrefix))
		if !ours {
			continue
		}
		dec := h3frame.NewDecoder(h3frame.ServerControlStream, h3frame.Limits{})
		_, _ = dec.Buffer().Write(frame)
		f, err := dec.Next()
		if err != nil {
			return false
		}
		before, err := h3frame.ParseSettings(f.Payload)
		return err == nil && before.CheckResumed(now) == nil
	}
	return false
}
