package tailfin

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlogwriter"

	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/h3frame"
)

func fetch(t *testing.T, addr string) string {
	t.Helper()
	resp, err := client(t, &Transport{}).Get("https://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	want(t, err, nil)
	return string(b)
}

type userKey struct{}

func TestConnContext(t *testing.T) {
	ended := make(chan struct{})
	var server *Server
	server = &Server{
		ConnContext: func(ctx context.Context, c *quic.Conn) context.Context {
			want(t, ctx.Value(RemoteAddrContextKey), any(c.RemoteAddr()))
			context.AfterFunc(ctx, func() { close(ended) })
			return context.WithValue(ctx, userKey{}, "mine")
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx := r.Context()
			want(t, ctx.Value(userKey{}), any("mine"))
			want(t, ctx.Value(ServerContextKey), any(server))
			local, _ := ctx.Value(http.LocalAddrContextKey).(net.Addr)
			remote, _ := ctx.Value(RemoteAddrContextKey).(net.Addr)
			want(t, remote.String(), r.RemoteAddr)
			_, _ = io.WriteString(w, local.String())
		}),
	}
	addr := startServer(t, server)
	want(t, fetch(t, addr), addr)
	_ = server.Close()
	<-ended // the connection's context ends with it
}

func TestConnContextRefuses(t *testing.T) {
	addr := startServer(t, &Server{ConnContext: func(context.Context, *quic.Conn) context.Context { return nil }})
	c := newRawClient(t, addr)
	wantConnClosed(t, c, h3frame.ErrCodeInternal)
}

// TestGetConfigForClient has configurations chosen for a client, by TLS and by QUIC,
// that say nothing of HTTP/3.
func TestGetConfigForClient(t *testing.T) {
	server := &Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.TLS.NegotiatedProtocol) }),
		TLSConfig: &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return &tls.Config{Certificates: []tls.Certificate{cert(t)}}, nil
		}},
		QUICConfig: &quic.Config{GetConfigForClient: func(*quic.ClientInfo) (*quic.Config, error) {
			return &quic.Config{MaxIncomingStreams: 7}, nil
		}},
	}
	addr := startServer(t, server)
	want(t, fetch(t, addr), NextProto)
	for _, c := range server.openConns(nil) {
		want(t, c.h3.barrier.drains, true) // the barrier is under the chosen one too
		want(t, c.h3.barrier.limits[kindBidi], 7)
	}
}

// lockedBuffer takes what several connections write.
type lockedBuffer struct{ peer.Output }

func (l *lockedBuffer) Close() error { return nil }

// TestKeyLogAndQlog has an embedder's key log and tracer beside the barrier's own.
func TestKeyLogAndQlog(t *testing.T) {
	var keys, trace lockedBuffer
	var traces sync.WaitGroup
	tlsConf := serverTLS(t)
	tlsConf.KeyLogWriter = &keys
	server := &Server{
		TLSConfig: tlsConf,
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }),
		QUICConfig: &quic.Config{Tracer: func(_ context.Context, isClient bool, id quic.ConnectionID) qlogwriter.Trace {
			seq := qlogwriter.NewConnectionFileSeq(&trace, isClient, id)
			traces.Go(seq.Run)
			return seq
		}},
	}
	addr := startServer(t, server)
	want(t, fetch(t, addr), "ok")
	_ = server.Close()
	traces.Wait()
	for _, part := range []string{"CLIENT_TRAFFIC_SECRET_0", "SERVER_HANDSHAKE_TRAFFIC_SECRET"} {
		want(t, strings.Contains(keys.String(), part), true)
	}
	for _, part := range []string{`"vantage_point":{"type":"server"`, "packet_received", "packet_sent", `"frame_type":"stream"`} {
		if !strings.Contains(trace.String(), part) {
			t.Errorf("no %s in the qlog", part)
		}
	}
}

func TestSetAltSvcHeader(t *testing.T) {
	server := &Server{Handler: http.NotFoundHandler()}
	h := make(http.Header)
	want(t, errors.Is(server.SetAltSvcHeader(h), ErrNoAltSvcPort), true)
	want(t, len(h), 0)

	first, second := startServer(t, server), startServer(t, server) // two sockets, one server
	fetch(t, first)                                                 // both serve by now
	fetch(t, second)
	want(t, server.SetAltSvcHeader(h), nil)
	for _, addr := range []string{first, second} {
		_, port, _ := net.SplitHostPort(addr)
		want(t, strings.Contains(h.Get("Alt-Svc"), `h3=":`+port+`"; ma=2592000`), true)
	}
	server.Port = 443
	h.Del("Alt-Svc")
	want(t, server.SetAltSvcHeader(h), nil)
	want(t, h.Get("Alt-Svc"), `h3=":443"; ma=2592000`)
}

func TestAdditionalSettings(t *testing.T) {
	addr := startServer(t, &Server{MaxHeaderBytes: 12345, AdditionalSettings: map[uint64]uint64{0x2b603742: 1}})
	settings := newRawClient(t, addr).settings(t)
	want(t, *settings.MaxFieldSectionSize, 12345)
	want(t, settings.Other[0], h3frame.Setting{ID: 0x2b603742, Value: 1})
}
