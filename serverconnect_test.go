package tailfin

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

func connect(fields ...string) []byte {
	return section(append([]string{":method", "CONNECT", ":authority", "example.com:443"}, fields...)...)
}

func extended(protocol string) []byte {
	return connect(":protocol", protocol, ":scheme", "https", ":path", "/chat?room=1")
}

// settings waits for the server's SETTINGS.
func (c *rawClient) settings(t *testing.T) h3frame.Settings {
	t.Helper()
	_, settings := c.control(t)
	return settings
}

// control returns the frames of the server's control stream behind its SETTINGS.
func (c *rawClient) control(t *testing.T) (*frameSource, h3frame.Settings) {
	t.Helper()
	str, err := c.conn.AcceptUniStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if typ, err := readVarint(str); err != nil || h3frame.StreamType(typ) != h3frame.StreamControl {
		t.Fatalf("stream of type %d, %v", typ, err)
	}
	src := newFrameSource(newRecvStream(str, new(atomic.Int64), nil), h3frame.ServerControlStream)
	f, err := src.next()
	if err != nil {
		t.Fatal(err)
	}
	settings, err := h3frame.ParseSettings(f.Payload)
	if err != nil {
		t.Fatal(err)
	}
	return src, settings
}

// TestConnectTunnel talks through a tunnel, line by line and both ways.
func TestConnectTunnel(t *testing.T) {
	for _, tc := range []struct {
		name             string
		head             []byte
		proto, uri, path string
	}{
		{"extended", extended("chat"), "chat", "/chat?room=1", "/chat"},
		{"plain", connect(), "HTTP/3.0", "example.com:443", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			addr := startServer(t, &Server{EnableExtendedConnect: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				want(t, r.Method, http.MethodConnect)
				want(t, r.Proto, tc.proto)
				want(t, r.RequestURI, tc.uri)
				want(t, r.URL.Path, tc.path)
				want(t, r.Host, "example.com:443")
				want(t, r.ContentLength, -1)
				w.Header().Set("Content-Length", "3") // which a tunnel has not
				w.WriteHeader(http.StatusOK)
				ctl := http.NewResponseController(w)
				_ = ctl.Flush()
				buf := make([]byte, 64)
				for {
					n, err := r.Body.Read(buf)
					if err != nil {
						want(t, err, io.EOF)
						return
					}
					_, _ = w.Write(buf[:n])
					_ = ctl.Flush()
				}
			})})
			c := newRawClient(t, addr)
			want(t, c.settings(t).EnableConnectProtocol, true)
			str, err := c.conn.OpenStreamSync(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, _ = str.Write(tc.head)
			src := newMessageSource(newRecvStream(str, new(atomic.Int64), nil), h3frame.NewResponseDecoder(h3frame.ResponseStream, http.MethodConnect, h3frame.Limits{}))
			ev, err := src.next()
			if err != nil {
				t.Fatal(err)
			}
			want(t, ev.Response.Status, 200)
			for _, name := range []string{"Content-Length", "Content-Type"} {
				if v, there := ev.Response.Header[name]; there {
					t.Errorf("%s %q in front of a tunnel", name, v)
				}
			}
			for _, line := range []string{"hello", "<html>", "bye"} {
				_, _ = str.Write(h3frame.AppendData(nil, []byte(line)))
				ev, err := src.next()
				want(t, string(ev.Body), line)
				want(t, err, nil)
			}
			_ = str.Close()
			_, err = src.next()
			want(t, err, io.EOF)
		})
	}
}

func TestConnectRefused(t *testing.T) {
	addr := startServer(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no tunnels here", http.StatusMethodNotAllowed)
	})})
	c := newRawClient(t, addr)
	want(t, c.settings(t).EnableConnectProtocol, false)

	t.Run("by the handler", func(t *testing.T) {
		head, body, err := answer(t, c.send(t, connect()))
		want(t, err, nil)
		want(t, head.Status, 405)
		want(t, head.Header.Get("Content-Length"), "16")
		want(t, body, "no tunnels here\n")
	})
	t.Run("extended without the setting", func(t *testing.T) {
		_, err := io.ReadAll(c.send(t, extended("websocket")))
		var reset *quic.StreamError
		if !errors.As(err, &reset) || h3frame.ErrorCode(reset.ErrorCode) != h3frame.ErrCodeMessage {
			t.Fatalf("%v, want a reset with H3_MESSAGE_ERROR", err)
		}
		want(t, c.conn.Context().Err(), nil)
	})
}

// TestTunnelEndsWithItsClient gives up a tunnel whose handler waits for more.
func TestTunnelEndsWithItsClient(t *testing.T) {
	over := make(chan error, 1)
	addr := startServer(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		over <- context.Cause(r.Context())
	})})
	c := newRawClient(t, addr)
	str, err := c.conn.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = str.Write(connect())
	_, _ = str.Read(make([]byte, 1)) // the tunnel is open
	str.CancelRead(quic.StreamErrorCode(h3frame.ErrCodeConnect))
	wantAs(t, <-over, func(e *StreamReset) bool { return e.Remote && e.Code == uint64(h3frame.ErrCodeConnect) })
}
