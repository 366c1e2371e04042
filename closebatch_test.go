package tailfin

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/h3frame"
)

// A gatedConn holds back what it has received while its gate is shut, so that
// what was sent meanwhile is handed over in one go.
type gatedConn struct {
	net.PacketConn
	gate sync.RWMutex
}

func (c *gatedConn) ReadFrom(p []byte) (int, net.Addr, error) {
	n, addr, err := c.PacketConn.ReadFrom(p)
	c.gate.RLock()
	defer c.gate.RUnlock()
	return n, addr, err
}

// TestClosingPeerInOneBatch has a peer whose answer, FIN and CONNECTION_CLOSE are
// all there before the client reads the first of them, on every request. quic-go
// (v0.65.0) hands datagrams to the run loop one by one, so that now and then (3 %
// here) the next request leaves between the FIN and the close. Then nothing tells
// that the peer has not got it: a GET goes again if that is asked for, a POST fails
// with a GracefulClose. Neither is a reason for HTTP/2.
func TestClosingPeerInOneBatch(t *testing.T) {
	requests := hostile.Size(200, 1000)
	if testing.Short() {
		requests = 100
	}
	t.Run("GET", func(t *testing.T) {
		want(t, closeInOneBatch(t, http.MethodGet, true, requests), 0)
	})
	t.Run("POST", func(t *testing.T) {
		failures := closeInOneBatch(t, http.MethodPost, false, requests)
		t.Logf("%d of %d requests had left when the close was read", failures, requests)
		if failures > requests/2 {
			t.Errorf("%d of %d requests failed", failures, requests)
		}
	})
}

// closeInOneBatch sends the requests one after the other, and returns how many of
// them met the close before their answer.
func closeInOneBatch(t *testing.T, method string, retry bool, requests int) (failures int) {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gated := &gatedConn{PacketConn: socket}
	qt := &quic.Transport{Conn: gated}
	defer func() {
		_ = qt.Close()
		_ = socket.Close()
	}()

	var counters drainCounters
	conf := drainOptions{counters: &counters}.install(&quic.Config{})
	raw := newRawPeer(t, rawPeerOptions{quic: conf, answer: func(c *rawPeerConn, s *quic.Stream) {
		path, err := requestHeadOf(s)
		if err != nil {
			return
		}
		var size int
		_, _ = fmt.Sscanf(path, "/bytes/%d", &size)
		sent := c.QlogTrace().(*barrier).watchEnd(s.StreamID())
		gated.gate.Lock()
		defer gated.gate.Unlock()
		finish(s, head(200), h3frame.AppendData(nil, peer.Pattern(size)))
		select {
		case <-sent:
		case <-c.Context().Done():
		}
		_ = c.CloseWithError(0x100, "")
	}})
	o := newOrigin(t, raw.addr, "")
	seen := &recorder{}
	f := newFallback(t, &Fallback{
		HTTP3: &Transport{RetryIdempotent: retry, Dial: func(ctx context.Context, addr string, tlsConf *tls.Config, conf *quic.Config) (*quic.Conn, error) {
			to, err := net.ResolveUDPAddr("udp", addr)
			if err != nil {
				return nil, err
			}
			return qt.Dial(ctx, to, tlsConf, conf)
		}},
		TryUnknown: true, Observer: seen,
	})
	for i := range requests {
		err := wantPattern(t, f, method, raw.addr, i%1000)
		if err != nil {
			failures++
			wantAs(t, err, func(e *GracefulClose) bool { return e.Phase == PhaseHeaders && !e.RetrySafe })
		}
	}
	want(t, o.overHTTP.Load(), 0)
	known, _ := f.caps.Of(raw.addr)
	want(t, known, Supported)
	want(t, len(seen.list), requests)
	_ = f.Close()
	return failures
}
