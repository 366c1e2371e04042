package tailfin

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// ticketCache is a session cache that tells when a ticket has arrived.
type ticketCache struct {
	tls.ClientSessionCache
	arrived chan struct{} // capacity 1
}

func (c *ticketCache) Put(key string, cs *tls.ClientSessionState) {
	c.ClientSessionCache.Put(key, cs)
	if cs != nil {
		select {
		case c.arrived <- struct{}{}:
		default:
		}
	}
}

// A gate is a client's socket that, while shut, delivers nothing: the client sends
// its ClientHello and early data, and cannot complete the handshake.
type gate struct {
	net.PacketConn
	shut atomic.Bool
	open chan struct{} // closed when it opens for good
}

func (g *gate) ReadFrom(p []byte) (int, net.Addr, error) {
	n, addr, err := g.PacketConn.ReadFrom(p)
	if g.shut.Load() {
		<-g.open
	}
	return n, addr, err
}

// dialEarly connects with a ticket of the server at issuer, through a gate that is
// shut until open is called.
func dialEarly(t *testing.T, issuer, addr string) (conn *quic.Conn, open func()) {
	t.Helper()
	resolve := func(addr string) net.Addr {
		to, err := net.ResolveUDPAddr("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		return to
	}
	conf := clientTLS(t)
	conf.ServerName = "localhost"
	cache := &ticketCache{tls.NewLRUClientSessionCache(4), make(chan struct{}, 1)}
	conf.ClientSessionCache = cache
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()

	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{PacketConn: socket, open: make(chan struct{})}
	open = sync.OnceFunc(func() { close(g.open) })
	tr := &quic.Transport{Conn: g}
	t.Cleanup(func() {
		open()
		_ = tr.Close()
		_ = socket.Close()
	})
	first, err := tr.Dial(ctx, resolve(issuer), conf, nil)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-cache.arrived:
	case <-ctx.Done():
		t.Fatal("no session ticket")
	}
	_ = first.CloseWithError(0x100, "")

	g.shut.Store(true)
	conn, err = tr.DialEarly(ctx, resolve(addr), conf, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseWithError(0x100, "") })
	return conn, open
}

func TestEarlyData(t *testing.T) {
	calls := make(chan bool, 1) // whether the handshake was complete
	asked := make(chan struct{}, 1)
	server := &Server{
		QUICConfig: &quic.Config{Allow0RTT: true},
		EarlyData: func(r *http.Request) bool {
			asked <- struct{}{}
			return r.URL.Path == "/idempotent"
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			calls <- r.TLS.HandshakeComplete
			_, _ = io.WriteString(w, "ok")
		}),
	}
	addr := startServer(t, server)
	for _, tc := range []struct {
		name  string
		req   []byte
		asks  bool
		waits bool
	}{
		{"a safe method runs early", get("/"), false, false},
		{"an unsafe one waits", post("/pay"), true, true},
		{"an unsafe one that does no harm runs early", post("/idempotent"), true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conn, open := dialEarly(t, addr, addr)
			str, err := conn.OpenStream()
			if err != nil {
				t.Fatal(err)
			}
			_ = str.SetReadDeadline(time.Now().Add(10 * time.Second))
			_, _ = str.Write(tc.req)
			_ = str.Close()
			if tc.asks {
				<-asked
			}
			if tc.waits {
				select {
				case <-calls:
					t.Fatal("the handler ran before the handshake was complete")
				case <-time.After(50 * time.Millisecond):
				}
				open()
			}
			want(t, <-calls, tc.waits)
			open()
			_, body, err := answer(t, str)
			want(t, body, "ok")
			want(t, err, nil)
			want(t, conn.ConnectionState().Used0RTT, true)
		})
	}
	want(t, server.Stats().EarlyHeld, 1)
	want(t, server.Stats().EarlyRun, 2)
}

// TestEarlyDataAfterRestart has a server that does not keep what the SETTINGS of the
// one before it have promised, and one that does.
func TestEarlyDataAfterRestart(t *testing.T) {
	tlsConf := serverTLS(t)
	tlsConf.SetSessionTicketKeys([][32]byte{{1, 2, 3}}) // which outlive a process
	start := func(s *Server) string {
		s.TLSConfig, s.QUICConfig = tlsConf, &quic.Config{Allow0RTT: true}
		return startServer(t, s)
	}
	before := start(&Server{EnableExtendedConnect: true, Handler: http.NotFoundHandler()})
	for _, tc := range []struct {
		name     string
		after    *Server
		accepted bool
	}{
		{"same settings", &Server{EnableExtendedConnect: true, Handler: http.NotFoundHandler()}, true},
		{"a setting taken back", &Server{Handler: http.NotFoundHandler()}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conn, open := dialEarly(t, before, start(tc.after))
			open()
			select {
			case <-conn.HandshakeComplete():
			case <-timeout(t).Done():
				t.Fatal("no handshake")
			}
			want(t, conn.ConnectionState().TLS.DidResume, true)
			want(t, conn.ConnectionState().Used0RTT, tc.accepted)
		})
	}
}

// TestTicketFits has tickets that remember more than we keep, less, and nothing.
func TestTicketFits(t *testing.T) {
	before := (&Server{EnableExtendedConnect: true}).settings()
	now := (&Server{}).settings()
	ticket := func(s h3frame.Settings) [][]byte {
		return [][]byte{[]byte("another's"), h3frame.AppendSettings([]byte(ticketPrefix), s)}
	}
	want(t, ticketFits(ticket(before), now), false)
	want(t, ticketFits(ticket(now), before), true) // more than before is no harm
	want(t, ticketFits(nil, now), false)
	want(t, ticketFits([][]byte{[]byte(ticketPrefix)}, now), false)
}
