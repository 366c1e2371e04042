package tailfin

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/h3frame"
)

// brokeHTTP tells the error of a peer that broke HTTP/3 in a way that has a code.
func brokeHTTP(codes ...h3frame.ErrorCode) func(error) bool {
	return func(err error) bool {
		var frame *FrameError
		var closed *ConnClosed
		for _, code := range codes {
			if errors.As(err, &frame) && frame.Code == code || errors.As(err, &closed) && !closed.Remote && closed.Code == uint64(code) {
				return true
			}
		}
		return false
	}
}

// isA tells errors of one type.
func isA[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// endlessly writes until the other side has enough.
func endlessly(str *quic.Stream, b []byte) {
	for {
		if _, err := str.Write(b); err != nil {
			return
		}
	}
}

// A hostileAnswer is how a server treats a request.
type hostileAnswer struct {
	name   string
	answer func(conn *rawPeerConn, str *quic.Stream)
	want   func(error) bool // nil for an answer that is good as far as it is read
	never  bool             // no head comes
}

// hostileRead is how much a client reads of an answer before it has enough.
const hostileRead = 1 << 20

func hostileAnswers(t *testing.T) []hostileAnswer {
	t.Helper()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	zeros := make([]byte, 1<<20)
	for range 2 {
		_, _ = z.Write(zeros)
	}
	_ = z.Close()
	long := strings.Repeat("v", 128<<10)
	interim, final, trailer := head(103, "X", long), head(200, "X", long), section("x", long)
	data := func(n int) []byte { return h3frame.AppendData(nil, make([]byte, n)) }
	grease := bomb(h3frame.FrameType(h3frame.Grease(1)), 1000, make([]byte, 1000))
	uni := func(conn *rawPeerConn, b ...byte) {
		if str, err := conn.OpenUniStream(); err == nil {
			_, _ = str.Write(b)
		}
	}
	tooMuch, message := h3frame.ErrCodeExcessiveLoad, h3frame.ErrCodeMessage
	return []hostileAnswer{
		{"interim responses without end", func(_ *rawPeerConn, s *quic.Stream) { endlessly(s, head(103, "Link", "</a>")) }, brokeHTTP(tooMuch), false},
		{"interim responses of 128 KiB", func(_ *rawPeerConn, s *quic.Stream) { endlessly(s, interim) }, brokeHTTP(tooMuch), false},
		{"a head of 128 KiB", func(_ *rawPeerConn, s *quic.Stream) { finish(s, final) }, brokeHTTP(tooMuch), false},
		{"a head of 2^62 bytes", func(_ *rawPeerConn, s *quic.Stream) { finish(s, bomb(h3frame.FrameHeaders, h3frame.MaxVarint, nil)) }, brokeHTTP(tooMuch), false},
		{"a head of 100,000 fields", func(_ *rawPeerConn, s *quic.Stream) {
			section := append([]byte{0, 0, 0xd9}, bytes.Repeat([]byte{0xd1}, 100_000)...) // :status 200
			finish(s, bomb(h3frame.FrameHeaders, uint64(len(section)), section))
		}, brokeHTTP(tooMuch, message), false},
		{"a head of the dynamic table", func(_ *rawPeerConn, s *quic.Stream) { finish(s, bomb(h3frame.FrameHeaders, 3, []byte{0, 0, 0x80})) }, brokeHTTP(h3frame.ErrCodeQPACKDecompressionFailed), false},
		{"trailers of 128 KiB", func(_ *rawPeerConn, s *quic.Stream) {
			finish(s, head(200), data(10), trailer)
		}, brokeHTTP(tooMuch), false},
		{"trailers after trailers", func(_ *rawPeerConn, s *quic.Stream) {
			_, _ = s.Write(append(head(200), data(10)...))
			endlessly(s, section("x", "y"))
		}, brokeHTTP(h3frame.ErrCodeFrameUnexpected), false},
		{"unknown frames without end", func(_ *rawPeerConn, s *quic.Stream) { endlessly(s, grease) }, isA[*HeaderTimeout], true},
		{"a head by and by", func(_ *rawPeerConn, s *quic.Stream) {
			for _, b := range head(200, "X", strings.Repeat("v", 10_000)) {
				if _, err := s.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(brief)
			}
		}, isA[*HeaderTimeout], true},
		{"no answer", func(_ *rawPeerConn, s *quic.Stream) { <-s.Context().Done() }, isA[*HeaderTimeout], true},
		{"a body longer than was said", func(_ *rawPeerConn, s *quic.Stream) { finish(s, head(200, "Content-Length", "5"), data(1000)) }, brokeHTTP(message), false},
		{"a body shorter than was said", func(_ *rawPeerConn, s *quic.Stream) { finish(s, head(200, "Content-Length", "5000"), data(1000)) }, isA[*Truncated], false},
		{"two lengths", func(_ *rawPeerConn, s *quic.Stream) {
			finish(s, section(":status", "200", "content-length", "5", "content-length", "6"), data(5))
		}, brokeHTTP(message), false},
		{"a negative length", func(_ *rawPeerConn, s *quic.Stream) {
			finish(s, section(":status", "200", "content-length", "-5"), data(5))
		}, brokeHTTP(message), false},
		{"a line feed in a field", func(_ *rawPeerConn, s *quic.Stream) { finish(s, section(":status", "200", "x", "a\nset-cookie: b")) }, brokeHTTP(message), false},
		{"a body without end", func(_ *rawPeerConn, s *quic.Stream) {
			_, _ = s.Write(head(200))
			endlessly(s, data(32<<10))
		}, nil, false},
		{"a body that gzip makes 1,000 times as long", func(_ *rawPeerConn, s *quic.Stream) {
			finish(s, head(200, "Content-Encoding", "gzip"), h3frame.AppendData(nil, packed.Bytes()))
		}, nil, false},
		{"two thousand empty DATA frames", func(_ *rawPeerConn, s *quic.Stream) {
			_, _ = s.Write(head(200))
			for range 2000 {
				if _, err := s.Write(data(0)); err != nil {
					return
				}
			}
			_ = s.Close()
		}, nil, false},
		{"a push that was not allowed", func(_ *rawPeerConn, s *quic.Stream) {
			finish(s, bomb(h3frame.FramePushPromise, 3, []byte{0, 0, 0}), head(200))
		}, brokeHTTP(h3frame.ErrCodeID), false},
		{"a push stream", func(c *rawPeerConn, s *quic.Stream) {
			uni(c, 0x01, 0x00)
			<-s.Context().Done()
		}, brokeHTTP(h3frame.ErrCodeID), false},
		{"a second control stream", func(c *rawPeerConn, s *quic.Stream) {
			uni(c, 0x00)
			<-s.Context().Done()
		}, brokeHTTP(h3frame.ErrCodeStreamCreation), false},
		{"inserts into the dynamic table", func(c *rawPeerConn, s *quic.Stream) {
			uni(c, 0x02, 0xc0, 1, 'x')
			<-s.Context().Done()
		}, brokeHTTP(h3frame.ErrCodeQPACKEncoderStream), false},
		{"a request of the server's", func(c *rawPeerConn, s *quic.Stream) {
			if str, err := c.OpenStream(); err == nil {
				_, _ = str.Write([]byte{1})
			}
			<-s.Context().Done()
		}, brokeHTTP(h3frame.ErrCodeStreamCreation), false},
		{"SETTINGS twice", func(c *rawPeerConn, s *quic.Stream) {
			_, _ = c.control.Write(h3frame.AppendSettings(nil, h3frame.Settings{}))
			<-s.Context().Done()
		}, brokeHTTP(h3frame.ErrCodeFrameUnexpected), false},
		{"GOAWAY that rises", func(c *rawPeerConn, s *quic.Stream) {
			c.goAway(400)
			c.goAway(4000)
			<-s.Context().Done()
		}, brokeHTTP(h3frame.ErrCodeID), false},
		{"GOAWAY for every request", func(c *rawPeerConn, s *quic.Stream) {
			c.goAway(0)
			<-s.Context().Done()
		}, isA[*GracefulClose], false},
		{"a thousand GOAWAY frames", func(c *rawPeerConn, s *quic.Stream) {
			for id := uint64(4000); id > 0; id -= 4 {
				c.goAway(id)
			}
			finish(s, reply("done"))
		}, nil, false},
		{"a reset", func(_ *rawPeerConn, s *quic.Stream) { s.CancelWrite(0x102) }, isA[*StreamReset], false},
		{"a close", func(c *rawPeerConn, _ *quic.Stream) { _ = c.CloseWithError(0x100, "") }, isA[*GracefulClose], false},
	}
}

// TestHostileServers has servers answer in every way that they must not, to a client that
// uploads to an honest one meanwhile.
func TestHostileServers(t *testing.T) {
	answers := hostileAnswers(t)
	s := newSiege(t, nil)
	rounds := hostile.Size(1, 30)
	s.attack(t, hostile.Result{Kind: "peer", Fault: "servers that answer wrongly, too much, or not at all, of each kind"}, func(t *testing.T) (int, string) {
		tr := newTransport(t, &Transport{MaxResponseHeaderBytes: 64 << 10, DialTimeout: time.Minute})
		hasty := newTransport(t, &Transport{ResponseHeaderTimeout: 3 * brief, DialTimeout: time.Minute})
		for range rounds {
			for _, a := range answers {
				server := newRawPeer(t, rawPeerOptions{answer: func(conn *rawPeerConn, str *quic.Stream) {
					_ = requestBytes(str)
					a.answer(conn, str)
				}})
				client := tr
				if a.never {
					client = hasty
				}
				err := readSome(t, client, server.addr)
				if a.want == nil && err != nil || a.want != nil && (err == nil || !a.want(err)) {
					t.Errorf("%s: %v (%T)", a.name, err, err)
				}
				server.stop()
				// It says nothing when it ends, and a later one may have its port.
				client.CloseIdleConnections()
			}
			// What is left of them keeps nobody from the honest.
			l := &honest{tr: tr, t: t}
			l.upload(t.Context(), s.addr, peer.Pattern(1000))
			if l.lost() != 0 || l.whole.Load() != 1 {
				t.Error("the same client does not reach an honest server")
			}
		}
		return rounds * len(answers), fmt.Sprintf("%d kinds, each the error that the package has for it; %d interim responses, MaxResponseHeaderBytes for head and trailers, ResponseHeaderTimeout, and bodies no faster than they are read", len(answers), maxInterim)
	})
}

// readSome asks a server for something, and reads what a client may have use for.
func readSome(t *testing.T, tr *Transport, addr string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+addr+"/", nil)
	if err != nil {
		return err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.CopyN(io.Discard, resp.Body, hostileRead)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// TestHostileDials has servers that let no handshake come to its end.
func TestHostileDials(t *testing.T) {
	corpus, err := peer.Record(timeout(t), cert(t))
	if err != nil {
		t.Fatal(err)
	}
	garbage := peer.NewGarbage(corpus, nil, 4)
	rng := rand.New(rand.NewPCG(1, 2))
	dials := []struct {
		name   string
		answer func(initial []byte) [][]byte // of each datagram of the client
	}{
		{"silence", func([]byte) [][]byte { return nil }},
		{"version negotiation of what there is not", func(p []byte) [][]byte { return [][]byte{negotiation(p, 0x0a0a0a0a, 0xff00001d)} }},
		{"version negotiation of what was asked for", func(p []byte) [][]byte { return [][]byte{negotiation(p, 1)} }},
		{"its own datagrams", func(p []byte) [][]byte { return [][]byte{p} }},
		{"garbage", func([]byte) [][]byte {
			var list [][]byte
			for range 50 {
				list = append(list, garbage.Next())
			}
			return list
		}},
		{"Retry packets that are forged", func(p []byte) [][]byte {
			b := append([]byte{0xf0, 0, 0, 0, 1}, idsTurned(p)...)
			for range 60 { // a token, and a tag that is wrong
				b = append(b, byte(rng.Uint32()))
			}
			return [][]byte{b, b}
		}},
	}
	s := newSiege(t, nil)
	rounds := hostile.Size(1, 20)
	s.attack(t, hostile.Result{Kind: "peer", Fault: "servers that let no handshake end, of each kind"}, func(t *testing.T) (int, string) {
		tr := newTransport(t, &Transport{DialTimeout: 200 * time.Millisecond})
		for range rounds {
			for _, d := range dials {
				socket := listenUDP(t)
				done := make(chan struct{})
				go func() {
					defer close(done)
					buf := make([]byte, 2048)
					for {
						n, from, err := socket.ReadFromUDP(buf)
						if err != nil {
							return
						}
						if n < 30 || buf[0]&0x80 == 0 {
							continue
						}
						for _, p := range d.answer(bytes.Clone(buf[:n])) {
							_, _ = socket.WriteToUDP(p, from)
						}
					}
				}()
				if err := readSome(t, tr, socket.LocalAddr().String()); !isA[*DialError](err) {
					t.Errorf("%s: %v (%T), want a DialError", d.name, err, err)
				}
				_ = socket.Close()
				<-done
			}
			refusing := newRawPeer(t, rawPeerOptions{answer: func(*rawPeerConn, *quic.Stream) {}, tls: &tls.Config{
				NextProtos: []string{NextProto},
				GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
					return nil, errors.New("none for you")
				},
			}})
			if err := readSome(t, tr, refusing.addr); !isA[*DialError](err) {
				t.Errorf("a handshake that is refused: %v (%T), want a DialError", err, err)
			}
			refusing.stop()
		}
		return rounds * (len(dials) + 1), "a DialError within DialTimeout; what is not authentic is passed over"
	})
}

// idsTurned are the connection IDs of a packet as its answer has them.
func idsTurned(p []byte) []byte {
	const first = 5 // behind type and version
	n := int(p[first])
	dcid := p[first+1 : first+1+n]
	m := int(p[first+1+n])
	scid := p[first+2+n : first+2+n+m]
	b := append([]byte{byte(m)}, scid...)
	return append(append(b, byte(n)), dcid...)
}

// negotiation is a version negotiation packet in answer to p (RFC 9000 §17.2.1).
func negotiation(p []byte, versions ...uint32) []byte {
	b := append([]byte{0xc0, 0, 0, 0, 0}, idsTurned(p)...)
	for _, v := range versions {
		b = append(b, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
	}
	return b
}
