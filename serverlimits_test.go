package tailfin

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/h3frame"
)

// dialError dials without a test helper's fatal end.
func dialError(t *testing.T, addr string) error {
	t.Helper()
	conf := clientTLS(t)
	conf.ServerName = "localhost"
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := quic.DialAddr(ctx, addr, conf, nil)
	if err == nil {
		_ = conn.CloseWithError(0x100, "")
	}
	return err
}

func TestConnLimits(t *testing.T) {
	for _, tc := range []struct {
		name  string
		limit func(*Server)
		count func(ServerStats) uint64
	}{
		{"MaxConns", func(s *Server) { s.MaxConns = 2 }, func(st ServerStats) uint64 { return st.ConnsRefused }},
		{"MaxConnsPerAddr", func(s *Server) { s.MaxConnsPerAddr = 2 }, func(st ServerStats) uint64 { return st.ConnsRefusedPerAddr }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var log peer.Output
			server := &Server{Handler: http.NotFoundHandler(), Logger: slog.New(slog.NewTextHandler(&log, nil))}
			tc.limit(server)
			addr := startServer(t, server)
			first, second := newRawClient(t, addr), newRawClient(t, addr)
			first.settings(t) // they are served by now
			second.settings(t)
			var refused *quic.TransportError
			if err := dialError(t, addr); !errors.As(err, &refused) || refused.ErrorCode != quic.ConnectionRefused {
				t.Fatalf("a connection too many: %v", err)
			}
			stats := server.Stats()
			want(t, stats.ConnsOpen, 2)
			want(t, stats.Conns, 2)
			want(t, tc.count(stats) > 0, true)
			want(t, strings.Contains(log.String(), "connection refused"), true)

			_ = first.conn.CloseWithError(0x100, "")
			// Once the server has met the close, and those of dials that were admitted then.
			eventually(t, "one that was closed makes room", func() bool { return dialError(t, addr) == nil })
		})
	}
}

// TestConnLimitAfterHandshake has connections that were within the limit when their
// handshake began.
func TestConnLimitAfterHandshake(t *testing.T) {
	server := &Server{MaxConns: 1, Handler: http.NotFoundHandler()}
	server.TLSConfig = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		server.limits.add() // another was faster
		return serverTLS(t), nil
	}}
	c := newRawClient(t, startServer(t, server))
	wantConnClosed(t, c, h3frame.ErrCodeExcessiveLoad)
	want(t, server.Stats().ConnsRefused, 1)
}

func TestNetworkOf(t *testing.T) {
	udp := func(ip string) net.Addr { return &net.UDPAddr{IP: net.ParseIP(ip), Port: 1} }
	for _, tc := range []struct {
		addr net.Addr
		want string
	}{
		{udp("192.0.2.1"), "192.0.2.1/32"},
		{udp("::ffff:192.0.2.1"), "192.0.2.1/32"},
		{udp("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64"},
		{&net.UDPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"}, "fe80::/64"},
		{&net.UnixAddr{Name: "x"}, "invalid Prefix"},
	} {
		want(t, NetworkOf(tc.addr).String(), tc.want)
	}
	s := &Server{MaxConnsPerAddr: 1}
	s.limits.addFrom(NetworkOf(udp("2001:db8::1")))
	want(t, s.limits.check(s, udp("2001:db8::2")), errTooManyFrom)
	want(t, s.limits.check(s, udp("2001:db8:0:1::2")), nil)
	s.MaxConnsPerAddr = -1
	want(t, s.limits.check(s, udp("2001:db8::2")), nil)
	s.limits.remove(NetworkOf(udp("2001:db8::1")))
	want(t, len(s.limits.from), 0)
}

func TestMaxRequestsPerConn(t *testing.T) {
	addr := startServer(t, &Server{MaxRequestsPerConn: 2, Handler: http.NotFoundHandler()})
	c := newRawClient(t, addr)
	for range 2 {
		if _, err := c.conn.OpenStream(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.conn.OpenStream(); err == nil {
		t.Fatal("a third stream was opened")
	}
}

func TestFloodMeter(t *testing.T) {
	m := floodMeter{limit: 3}
	now := time.Unix(1000, 0)
	want(t, m.noteBad(now, 3), false)
	want(t, m.noteBad(now, 1), true)
	m.noteGood(now)
	want(t, m.noteBad(now, 0), false) // an answer makes up for it
	want(t, m.noteBad(now.Add(LimitWindow), 3), false)
	want(t, m.noteBad(now.Add(LimitWindow), 1), true)
	want(t, (&floodMeter{limit: limitOf(-1, 3)}).noteBad(now, 1<<30), false)
	want(t, limitOf(0, 3), 3)
}

// TestHonestResets are made up for by answers.
func TestHonestResets(t *testing.T) {
	server := &Server{MaxResets: 1, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	})}
	c := newRawClient(t, startServer(t, server))
	for range 10 {
		if _, err := io.ReadAll(c.send(t, get("/"))); err != nil {
			t.Fatal(err)
		}
		str := c.send(t, get("/slow"))
		_, _ = str.Read(make([]byte, 1))
		str.CancelRead(quic.StreamErrorCode(h3frame.ErrCodeRequestCancelled))
	}
	if _, err := io.ReadAll(c.send(t, get("/"))); err != nil {
		t.Fatal(err)
	}
	want(t, server.Stats().RapidResets, 0)
}
