package tailfin

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// TestConnect has a tunnel through a quic-go/http3 server, plain and extended.
func TestConnect(t *testing.T) {
	addr := stockServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Target", r.Method+" "+r.Host+" "+r.URL.Path+" "+r.Proto)
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		for lines := bufio.NewScanner(r.Body); lines.Scan(); {
			_, _ = fmt.Fprintf(w, "<%s>\n", lines.Text())
			_ = http.NewResponseController(w).Flush()
		}
	}))
	for _, tc := range []struct {
		name   string
		change func(*http.Request)
		want   string
	}{
		{"plain", func(r *http.Request) { r.Host = "target.example:22" }, "CONNECT target.example:22  HTTP/3.0"},
		{"Proto", func(r *http.Request) { r.Proto = "websocket" }, "CONNECT " + addr + " /chat websocket"},
		{"field", func(r *http.Request) { r.Header[":protocol"] = []string{"websocket"} }, "CONNECT " + addr + " /chat websocket"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr := newTransport(t, &Transport{})
			pr, pw := io.Pipe()
			req, _ := http.NewRequest(http.MethodConnect, "https://"+addr+"/chat", pr)
			tc.change(req)
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			want(t, resp.Header.Get("X-Target"), tc.want)
			back := bufio.NewReader(resp.Body)
			for i := range 3 {
				_, _ = fmt.Fprintf(pw, "%d\n", i)
				line, err := back.ReadString('\n')
				want(t, line, fmt.Sprintf("<%d>\n", i))
				want(t, err, nil)
			}
			_ = pw.Close()
			rest, err := io.ReadAll(back)
			want(t, len(rest), 0)
			want(t, err, nil)
		})
	}
}

// TestExtendedConnectNeedsSettings has peers that do not offer it, or take their
// time to say so.
func TestExtendedConnectNeedsSettings(t *testing.T) {
	opened := make(chan struct{}, 10)
	answer := func(_ *rawPeerConn, s *quic.Stream) {
		opened <- struct{}{}
		_, _ = s.Write(head(200))
		_ = s.Close()
	}
	connect := func(ctx context.Context, tr *Transport, addr string) error {
		req, _ := http.NewRequestWithContext(ctx, http.MethodConnect, "https://"+addr+"/", nil)
		req.Proto = "websocket"
		resp, err := tr.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
	t.Run("not offered", func(t *testing.T) {
		peer := newRawPeer(t, rawPeerOptions{answer: answer})
		err := connect(t.Context(), newTransport(t, &Transport{}), peer.addr)
		wantAs(t, err, func(e *RequestError) bool { return e.Phase == PhaseBeforeWire })
		want(t, len(opened), 0)
	})
	t.Run("offered", func(t *testing.T) {
		peer := newRawPeer(t, rawPeerOptions{answer: answer, settings: h3frame.Settings{EnableConnectProtocol: true}})
		want(t, connect(t.Context(), newTransport(t, &Transport{}), peer.addr), nil)
		want(t, len(opened), 1)
	})
	t.Run("no SETTINGS", func(t *testing.T) {
		addr := rawServer(t, func(*quic.Conn, *quic.Stream) { opened <- struct{}{} })
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := connect(ctx, newTransport(t, &Transport{}), addr)
		wantAs(t, err, func(e *Cancelled) bool { return e.Phase == PhaseBeforeWire && e.Timeout() })
		want(t, len(opened), 1) // that of the test before
	})
}
