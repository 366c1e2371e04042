package tailfin

import (
	"net"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"
)

func TestHandshakes(t *testing.T) {
	info := func(ip string, proven bool) *quic.ClientInfo {
		return &quic.ClientInfo{RemoteAddr: &net.UDPAddr{IP: net.ParseIP(ip), Port: 1}, AddrVerified: proven}
	}
	s := &Server{MaxHandshakes: 16}
	h := &s.handshakes
	first := h.begin(s, info("192.0.2.1", true))
	second := h.begin(s, info("192.0.2.1", true))
	want(t, h.check(s, info("192.0.2.1", true)), errTooManyHandshakesFrom)
	want(t, h.check(s, info("192.0.2.1", false)), nil) // it may be forged
	want(t, h.check(s, info("192.0.2.2", true)), nil)
	want(t, s.VerifySourceAddress(nil), false)
	var others []*handshake
	for range 14 {
		others = append(others, h.begin(s, info("192.0.2.3", false)))
	}
	want(t, s.VerifySourceAddress(nil), true)
	want(t, h.check(s, info("192.0.2.2", true)), errTooManyHandshakes)
	want(t, s.Stats().HandshakesActive, 16)
	first.end(true)
	first.end(false) // its connection is over
	want(t, h.check(s, info("192.0.2.1", true)), nil)
	second.end(false)
	for _, o := range others {
		o.end(false)
	}
	stats := s.Stats()
	want(t, stats.HandshakesActive, 0)
	want(t, stats.HandshakesFailed, 15)
	want(t, stats.Retries, 1)
	want(t, len(h.from), 0)
	(*handshake)(nil).end(true) // of a connection that is not counted

	s.MaxHandshakes = -1
	want(t, s.VerifySourceAddress(nil), false)
	want(t, h.check(s, info("192.0.2.1", true)), nil)
}

// TestHandshakeIsCounted follows one that completes.
func TestHandshakeIsCounted(t *testing.T) {
	server := &Server{}
	c := newRawClient(t, startServer(t, server))
	c.settings(t)
	stats := server.Stats()
	want(t, stats.HandshakesActive, 0)
	want(t, stats.HandshakesFailed, 0)
	want(t, stats.Conns, 1)
}

func TestUselessFrames(t *testing.T) {
	frames := func(list ...any) []qlog.Frame {
		var fs []qlog.Frame
		for _, f := range list {
			fs = append(fs, qlog.Frame{Frame: f})
		}
		return fs
	}
	ping, ack := &qlog.PingFrame{}, &qlog.AckFrame{}
	for _, tc := range []struct {
		name   string
		frames []qlog.Frame
		want   uint64
	}{
		{"an ACK with a PING", frames(ack, ping), 0},
		{"PINGs", frames(ping, ping, ping), 2},
		{"data", frames(&qlog.StreamFrame{Length: 5}, &qlog.StreamFrame{Fin: true}), 0},
		{"no data", frames(&qlog.StreamFrame{}, &qlog.StreamFrame{}), 2},
		{"credit", frames(&qlog.MaxDataFrame{}, &qlog.MaxStreamsFrame{}, &qlog.MaxStreamDataFrame{}, &qlog.MaxStreamDataFrame{}), 0},
		{"credit again", frames(&qlog.MaxDataFrame{}, &qlog.MaxDataFrame{}, &qlog.MaxDataFrame{}), 1},
		{"IDs and paths", frames(&qlog.NewConnectionIDFrame{}, &qlog.RetireConnectionIDFrame{}, &qlog.PathChallengeFrame{}), 3},
	} {
		var u uselessFrames
		u.packet(tc.frames) // nobody to tell yet
		var got uint64
		u.report(func(n uint64) { got += n })
		u.packet(tc.frames)
		if got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
}
