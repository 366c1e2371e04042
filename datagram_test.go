package tailfin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// dialDatagrams is a raw client with QUIC datagrams whose SETTINGS are sent.
func dialDatagrams(t *testing.T, addr string, settings h3frame.Settings) *rawClient {
	t.Helper()
	c := dialRaw(t, addr, &quic.Config{EnableDatagrams: true})
	c.sendUni(t, false, h3frame.AppendStreamType(nil, h3frame.StreamControl), h3frame.AppendSettings(nil, settings))
	return c
}

// wrapped is a middleware's ResponseWriter.
type wrapped struct{ http.ResponseWriter }

func (w wrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestDatagrams(t *testing.T) {
	server := &Server{EnableDatagrams: true, EnableExtendedConnect: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		dg, err := DatagramsOf(wrapped{w})
		if err != nil {
			t.Error(err)
			return
		}
		_ = http.NewResponseController(w).Flush()
		for {
			p, err := dg.ReceiveDatagram(r.Context())
			if err != nil {
				return
			}
			if err := dg.SendDatagram(append([]byte("got "), p...)); err != nil {
				t.Errorf("SendDatagram: %v", err)
			}
		}
	})}
	addr := startServer(t, server)
	c := dialDatagrams(t, addr, h3frame.Settings{H3Datagram: true})
	want(t, c.settings(t).H3Datagram, true)
	_ = c.conn.SendDatagram(h3frame.AppendDatagram(nil, 400, []byte("of no stream")))
	var tunnels []*quic.Stream
	for range 2 {
		str, err := c.conn.OpenStreamSync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = str.Write(extended("connect-udp"))
		_, _ = str.Read(make([]byte, 1)) // it is open
		tunnels = append(tunnels, str)
	}
	for _, str := range tunnels {
		id := uint64(str.StreamID())
		if err := c.conn.SendDatagram(h3frame.AppendDatagram(nil, id, fmt.Appendf(nil, "ping %d", id))); err != nil {
			t.Fatal(err)
		}
		b, err := c.conn.ReceiveDatagram(timeout(t))
		if err != nil {
			t.Fatal(err)
		}
		got, payload, err := h3frame.ParseDatagram(b)
		want(t, err, nil)
		want(t, got, id)
		want(t, string(payload), fmt.Sprintf("got ping %d", id))
	}
	stats := server.Stats()
	want(t, stats.DatagramsReceived, 2)
	want(t, stats.DatagramsSent, 2)
	want(t, stats.DatagramsStray, 1)
}

// TestDatagramsNotEnabled has one side that does not want them.
func TestDatagramsNotEnabled(t *testing.T) {
	for _, tc := range []struct {
		name   string
		server bool
	}{{"by the server", false}, {"by the client", true}} {
		t.Run(tc.name, func(t *testing.T) {
			got := make(chan error, 1)
			addr := startServer(t, &Server{EnableDatagrams: tc.server, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				dg, err := DatagramsOf(w)
				if err == nil {
					err = dg.SendDatagram([]byte("x"))
				}
				got <- err
			})})
			c := dialDatagrams(t, addr, h3frame.Settings{})
			want(t, c.settings(t).H3Datagram, tc.server)
			_, _ = io.ReadAll(c.send(t, get("/")))
			if err := <-got; !errors.Is(err, ErrNoDatagrams) || !errors.Is(err, http.ErrNotSupported) {
				t.Errorf("SendDatagram: %v", err)
			}
		})
	}
	if _, err := DatagramsOf(struct{ http.ResponseWriter }{}); !errors.Is(err, http.ErrNotSupported) {
		t.Errorf("DatagramsOf a foreign ResponseWriter: %v", err)
	}
}

func TestDatagramViolations(t *testing.T) {
	for _, tc := range []struct {
		name string
		send func(t *testing.T, addr string) *rawClient
		code h3frame.ErrorCode
	}{
		{"cut within its stream ID", func(t *testing.T, addr string) *rawClient {
			c := dialDatagrams(t, addr, h3frame.Settings{H3Datagram: true})
			_ = c.conn.SendDatagram([]byte{0x40})
			return c
		}, h3frame.ErrCodeDatagram},
		{"stream ID that cannot be", func(t *testing.T, addr string) *rawClient {
			c := dialDatagrams(t, addr, h3frame.Settings{H3Datagram: true})
			_ = c.conn.SendDatagram(h3frame.AppendVarint(nil, h3frame.MaxVarint))
			return c
		}, h3frame.ErrCodeDatagram},
		{"setting without QUIC datagrams", func(t *testing.T, addr string) *rawClient {
			c := newRawClient(t, addr)
			c.sendUni(t, false, h3frame.AppendStreamType(nil, h3frame.StreamControl), h3frame.AppendSettings(nil, h3frame.Settings{H3Datagram: true}))
			return c
		}, h3frame.ErrCodeSettings},
	} {
		t.Run(tc.name, func(t *testing.T) {
			addr := startServer(t, &Server{EnableDatagrams: true, Handler: http.NotFoundHandler()})
			wantConnClosed(t, tc.send(t, addr), tc.code)
		})
	}
}

// TestDatagramQueue fills the queue of a request that does not receive.
func TestDatagramQueue(t *testing.T) {
	ctx, gone := context.WithCancelCause(context.Background())
	m := &datagramMux{flows: make(map[quic.StreamID]*datagramFlow), counters: new(datagramCounters)}
	f := m.open(ctx, 0)
	for i := range datagramQueueLen + 3 {
		want(t, f.push([]byte{byte(i)}), i < datagramQueueLen)
	}
	for i := range datagramQueueLen {
		p, err := f.ReceiveDatagram(ctx)
		want(t, err, nil)
		want(t, p[0], byte(i+3)) // the oldest are gone
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := f.ReceiveDatagram(cancelled)
	want(t, err, context.Canceled)

	f.push([]byte("last"))
	m.close(&quic.ApplicationError{Remote: true, ErrorCode: 0x100})
	p, err := f.ReceiveDatagram(context.Background())
	want(t, string(p), "last") // before the end
	want(t, err, nil)
	_, err = f.ReceiveDatagram(context.Background())
	wantAs[*GracefulClose](t, err, nil)
	_, err = m.open(ctx, 4).ReceiveDatagram(context.Background()) // of a connection that is over
	wantAs[*GracefulClose](t, err, nil)

	m = &datagramMux{flows: make(map[quic.StreamID]*datagramFlow), counters: new(datagramCounters)}
	f = m.open(ctx, 0)
	f.close()
	want(t, len(m.flows), 0)
	want(t, errors.Is(f.SendDatagram(nil), net.ErrClosed), true)
	f = m.open(ctx, 0)
	gone(&quic.StreamError{Remote: true, ErrorCode: quic.StreamErrorCode(h3frame.ErrCodeConnect)})
	_, err = f.ReceiveDatagram(context.Background())
	wantAs(t, err, func(e *StreamReset) bool { return e.Code == uint64(h3frame.ErrCodeConnect) })
}
