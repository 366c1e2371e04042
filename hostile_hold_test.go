package tailfin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/h3frame"
)

// TestHostileSlowness has clients that hold requests by going on slowly or not at all, all
// of them at once: as many requests each as a connection may have.
func TestHostileSlowness(t *testing.T) {
	const streams = 20
	still := func(parts ...[]byte) func(t *testing.T, c *rawClient) func() {
		return func(t *testing.T, c *rawClient) func() {
			c.start(t, parts...)
			return func() {}
		}
	}
	unread := func(t *testing.T, c *rawClient) func() {
		c.send(t, get("/endless"))
		return func() {}
	}
	kinds := []struct {
		name  string
		conf  *quic.Config // of the client
		start func(t *testing.T, c *rawClient) (stop func())
	}{
		{name: "half a head", start: still(get("/")[:5])},
		{name: "a head by and by", start: drip(get("/", "x", strings.Repeat("y", 5000)), 1)},
		{name: "a body that stops", start: still(post("/"), h3frame.AppendData(nil, []byte("some")))},
		{name: "a body by and by", start: drip(append(post("/"), bomb(h3frame.FrameData, 5000, make([]byte, 5000))...), len(post("/")))},
		{name: "an answer not read", start: unread},
		{name: "an answer without a window", start: unread, conf: &quic.Config{
			InitialStreamReceiveWindow: 1, MaxStreamReceiveWindow: 1, InitialConnectionReceiveWindow: 1, MaxConnectionReceiveWindow: 1,
		}},
	}
	s := newSiege(t, func(s *Server) {
		s.ReadHeaderTimeout, s.BodyIdleTimeout, s.RequestTimeout = 3*time.Second, 3*time.Second, 4*time.Second
		s.MaxRequestsPerConn = streams
	})
	s.attack(t, hostile.Result{Kind: "client", Fault: "slowness: head, body and answer stopped, by and by, not read, without a window"}, func(t *testing.T) (int, string) {
		rounds := hostile.Size(1, 10)
		round := uint64(0)
		inRounds(t, rounds, func(t *testing.T) {
			round++
			var stops []func()
			var conns []*rawClient
			for _, kind := range kinds {
				c := dialRaw(t, s.addr, kind.conf)
				conns = append(conns, c)
				for range streams {
					stops = append(stops, kind.start(t, c))
				}
			}
			eventually(t, "all of them are ended", func() bool {
				st := s.server.Stats()
				n := round * streams
				return st.HeadTimeouts >= 2*n && st.BodyTimeouts >= n && st.RequestTimeouts >= 3*n
			})
			for i, c := range conns {
				if c.conn.Context().Err() != nil {
					t.Errorf("%s: the connection ended: %v", kinds[i].name, context.Cause(c.conn.Context()))
				}
			}
			for _, stop := range stops {
				stop()
			}
		})
		st := s.server.Stats()
		return rounds * streams * len(kinds), fmt.Sprintf("%d requests a connection; ReadHeaderTimeout, BodyIdleTimeout and RequestTimeout end them; tailfin_server_timeouts_total head %d, body %d, request %d", streams, st.HeadTimeouts, st.BodyTimeouts, st.RequestTimeouts)
	})
}

// drip has a request arrive by single bytes, but for the first ones, until it is stopped
// or reset.
func drip(message []byte, first int) func(t *testing.T, c *rawClient) (stop func()) {
	return func(t *testing.T, c *rawClient) func() {
		str := c.start(t, message[:first])
		done, over := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(over)
			for _, b := range message[first:] {
				select {
				case <-done:
					return
				case <-time.After(brief):
				}
				if _, err := str.Write([]byte{b}); err != nil {
					return
				}
			}
		}()
		return func() {
			close(done)
			<-over
		}
	}
}

// TestHostileConnections has more connections asked for than there may be, by one address.
func TestHostileConnections(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Server)
		count  func(ServerStats) uint64
	}{
		{"all", func(s *Server) { s.MaxConns = 10 }, func(st ServerStats) uint64 { return st.ConnsRefused }},
		{"address", func(s *Server) { s.MaxConnsPerAddr = 10 }, func(st ServerStats) uint64 { return st.ConnsRefusedPerAddr }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSiege(t, tc.change)
			s.attack(t, hostile.Result{Kind: "client", Fault: "a flood of connections, limit on " + tc.name}, func(t *testing.T) (int, string) {
				const limit = 10
				socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 9, 9, 9)})
				if err != nil {
					t.Fatal(err)
				}
				tr := &quic.Transport{Conn: socket}
				t.Cleanup(func() { _ = tr.Close(); _ = socket.Close() })
				to, err := net.ResolveUDPAddr("udp", s.addr)
				if err != nil {
					t.Fatal(err)
				}
				conf := clientTLS(t)
				conf.ServerName = "localhost"
				n, open, refused := hostile.Size(20, 1000), 0, 0
				for range n {
					conn, err := tr.Dial(timeout(t), to, conf, nil)
					var code *quic.TransportError
					switch {
					case err == nil:
						open++
						t.Cleanup(func() { _ = conn.CloseWithError(0x100, "") })
					case errors.As(err, &code) && code.ErrorCode == quic.ConnectionRefused:
						refused++
					default:
						t.Errorf("neither open nor refused: %v", err)
					}
					if at := s.server.Stats().ConnsOpen; at > limit+1 { // the honest client's, too
						t.Fatalf("%d connections are open", at)
					}
				}
				// A connection that had begun before is refused after its handshake.
				if open > limit+2 || refused < n-limit-2 {
					t.Errorf("%d are open and %d refused of %d", open, refused, n)
				}
				return n, fmt.Sprintf(`%d open (%d), the others refused before their handshake; tailfin_server_connections_refused_total{limit="%s"} %d`, open, limit, tc.name, tc.count(s.server.Stats()))
			})
		})
	}
}

// TestHostileSilence has handshakes begin, from many addresses, that nobody goes on with,
// and clients that leave without a word, with requests at work.
func TestHostileSilence(t *testing.T) {
	const limit = 64
	m, err := peer.NewInitials(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kinds := []func(uint64) []byte{m.Datagram, m.Half, m.Gaps, m.Beyond}
	s := newSiege(t, func(s *Server) {
		s.MaxHandshakes = limit
		s.QUICConfig.HandshakeIdleTimeout, s.QUICConfig.MaxIdleTimeout = 3*time.Second, 3*time.Second
	})
	s.attack(t, hostile.Result{Kind: "client", Fault: "handshakes that stall: silence, half a ClientHello, gaps in it, data beyond it; clients that vanish"}, func(t *testing.T) (int, string) {
		vanished := hostile.Size(10, 500)
		for range vanished {
			h, err := peer.DialHostile(timeout(t), s.addr)
			if err != nil {
				t.Fatal(err)
			}
			if err := h.Send(peer.AppendStreamFrame(nil, 0, 0, get("/hold"), false)); err != nil {
				t.Fatal(err)
			}
			h.Close()
		}
		spoofer, err := peer.NewSpoofer(s.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(spoofer.Close)
		n, most := hostile.Size(2000, 400_000), 0
		if err := spoofer.Send(n, func(i int) ([]byte, net.IP) { return kinds[i%len(kinds)](uint64(i)), peer.Source(i) }, func() {
			most = max(most, s.server.Stats().HandshakesActive)
			time.Sleep(time.Millisecond)
		}); err != nil {
			t.Fatal(err)
		}
		if most > limit {
			t.Errorf("%d handshakes were under way", most)
		}
		// New ones of honest clients go on, after a Retry.
		l := &honest{tr: newTransport(t, &Transport{DialTimeout: time.Minute, QUICConfig: &quic.Config{HandshakeIdleTimeout: time.Minute}}), t: t}
		l.upload(t.Context(), s.addr, peer.Pattern(1000))
		if l.lost() != 0 || l.whole.Load() != 1 {
			t.Error("a new connection was not made beside it")
		}
		eventually(t, "they end", func() bool { return s.server.Stats().HandshakesActive == 0 })
		stats := s.server.Stats()
		if stats.HandshakesFailed == 0 || stats.Retries == 0 {
			t.Errorf("%d count as failed, and %d as asked to prove their address", stats.HandshakesFailed, stats.Retries)
		}
		return n + vanished, fmt.Sprintf("%d under way at most (MaxHandshakes %d), %d answered by a Retry, %d failed; idle timeouts of 3 s; tailfin_server_handshakes_active, tailfin_server_retries_total", most, limit, stats.Retries, stats.HandshakesFailed)
	})
}
