package tailfin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/udp"
)

// A quicPair is two ends of a quic-go connection, each over a barrier.
type quicPair struct {
	client, server   *quic.Conn
	clientB, serverB *barrier
	counters         drainCounters // of the server
}

// newQUICPair connects; drain says whether the server has a tracer at all.
func newQUICPair(t *testing.T, drain bool) *quicPair {
	t.Helper()
	p := &quicPair{}
	conns := make([]*quic.Transport, 2)
	for i := range conns {
		conn, err := udp.Listen("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		tr := &quic.Transport{Conn: conn}
		conns[i] = tr
		t.Cleanup(func() {
			_ = tr.Close()
			_ = conn.Close()
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conf := &quic.Config{MaxIncomingStreams: 500, MaxIncomingUniStreams: 500}
	serverOpts := drainOptions{disabled: !drain, counters: &p.counters}
	ln, err := conns[0].Listen(serverTLS(t), serverOpts.install(conf))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	clientOpts := drainOptions{counters: new(drainCounters)}
	addr, ok := conns[0].Conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		t.Fatal("no UDP address")
	}
	tlsConf := clientTLS(t)
	tlsConf.ServerName = "localhost"
	if p.client, err = conns[1].Dial(ctx, addr, tlsConf, clientOpts.install(conf)); err != nil {
		t.Fatal(err)
	}
	if p.server, err = ln.Accept(ctx); err != nil {
		t.Fatal(err)
	}
	p.clientB = barrierOf(p.client, true, clientOpts)
	p.serverB = barrierOf(p.server, false, serverOpts)
	return p
}

// closeWhenSent closes the client once every FIN in sent is on its way.
func (p *quicPair) closeWhenSent(t *testing.T, sent []<-chan struct{}) {
	t.Helper()
	for _, ch := range sent {
		select {
		case <-ch:
		case <-time.After(10 * time.Second):
			t.Fatal("a FIN was never sent")
		}
	}
	_ = p.client.CloseWithError(0x100, "")
	<-p.server.Context().Done()
}

// TestUnacceptedStreamsSurviveTheClose closes while the server has accepted
// none of many streams, of both kinds.
func TestUnacceptedStreamsSurviveTheClose(t *testing.T) {
	for _, streams := range []int{1, 20, 200} {
		t.Run(fmt.Sprint(streams), func(t *testing.T) {
			p := newQUICPair(t, true)
			body := func(i int) []byte { return append(peer.Pattern(100), byte(i)) }
			var sent []<-chan struct{}
			for i := range streams {
				bidi, err := p.client.OpenStreamSync(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				uni, err := p.client.OpenUniStreamSync(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range []interface {
					io.WriteCloser
					StreamID() quic.StreamID
				}{bidi, uni} {
					sent = append(sent, p.clientB.watchEnd(s.StreamID()))
					if _, err := s.Write(body(i)); err != nil {
						t.Fatal(err)
					}
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
				}
			}
			p.closeWhenSent(t, sent)

			var bidis, unis int
			for {
				s, err := p.serverB.acceptStream(t.Context())
				if err != nil {
					break
				}
				checkStream(t, s.recv, body(int(s.quic.StreamID()/4)))
				bidis++
			}
			for {
				s, err := p.serverB.acceptUniStream(t.Context())
				if err != nil {
					break
				}
				checkStream(t, s, body(int(s.src.StreamID()/4)))
				unis++
			}
			if bidis != streams || unis != streams {
				t.Fatalf("%d bidirectional and %d unidirectional streams of %d each", bidis, unis, streams)
			}
			if got := p.counters.unaccepted.Load(); got != uint64(2*streams) {
				t.Fatalf("%d unaccepted streams counted, want %d", got, 2*streams)
			}
		})
	}
}

func checkStream(t *testing.T, r io.Reader, want []byte) {
	t.Helper()
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read %d of %d bytes: %v", len(got), len(want), err)
	}
}

// TestUnacceptedStreamsAreLostWithout shows that quic-go itself hides them.
func TestUnacceptedStreamsAreLostWithout(t *testing.T) {
	p := newQUICPair(t, false)
	s, err := p.client.OpenUniStream()
	if err != nil {
		t.Fatal(err)
	}
	sent := p.clientB.watchEnd(s.StreamID())
	_, _ = s.Write([]byte("lost"))
	_ = s.Close()
	p.closeWhenSent(t, []<-chan struct{}{sent})
	if _, err := p.serverB.acceptUniStream(t.Context()); err == nil {
		t.Fatal("quic-go delivers unaccepted streams after a close now: the barrier's accept may go")
	}
}

// TestCloseErrorComesAfterTheBytes has streams without FIN, and other codes.
func TestCloseErrorComesAfterTheBytes(t *testing.T) {
	for _, code := range []quic.ApplicationErrorCode{0x100, 0x102, 0x10c} {
		t.Run(fmt.Sprintf("%#x", uint64(code)), func(t *testing.T) {
			p := newQUICPair(t, true)
			open, err := p.client.OpenStreamSync(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := open.Write(peer.Pattern(5000)); err != nil {
				t.Fatal(err)
			}
			for !p.serverB.arrived(open.StreamID(), 5000, false) {
				time.Sleep(time.Millisecond)
			}
			_ = p.client.CloseWithError(code, "")
			<-p.server.Context().Done()

			s, err := p.serverB.acceptStream(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(s.recv)
			var closed *quic.ApplicationError
			if !bytes.Equal(got, peer.Pattern(5000)) || !errors.As(err, &closed) || closed.ErrorCode != code {
				t.Fatalf("read %d bytes, %v; want 5000 and the close", len(got), err)
			}
		})
	}
}

// arrived tells that the first n bytes of a stream are in, and its FIN if asked for.
func (b *barrier) arrived(id quic.StreamID, n int64, fin bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.streams[id]
	return s != nil && s.ledger.contiguous >= n && (!fin || s.ledger.ended())
}
