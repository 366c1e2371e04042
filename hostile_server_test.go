package tailfin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/h3frame"
)

// TestHostileRapidReset opens requests and gives them up at once (CVE-2023-44487), in the
// ways that a client can.
func TestHostileRapidReset(t *testing.T) {
	const limit = 20
	cancel := quic.StreamErrorCode(h3frame.ErrCodeRequestCancelled)
	for _, tc := range []struct {
		name  string
		open  func(*quic.Stream)
		count func(ServerStats) uint64
	}{
		{"before the head", func(str *quic.Stream) {
			_, _ = str.Write(get("/hold")[:3])
			str.CancelWrite(cancel)
		}, func(st ServerStats) uint64 { return st.RequestsReset }},
		{"malformed", func(str *quic.Stream) {
			_, _ = str.Write(get("nowhere"))
			_ = str.Close()
			_, _ = str.Read(make([]byte, 1))
		}, func(st ServerStats) uint64 { return st.RequestsMalformed }},
		{"heads declared too large", func(str *quic.Stream) {
			_, _ = str.Write(bomb(h3frame.FrameHeaders, 1<<30, nil))
			_, _ = str.Read(make([]byte, 1))
			str.CancelRead(cancel)
			str.CancelWrite(cancel)
		}, func(st ServerStats) uint64 { return st.HeadersTooLarge }},
		{"at work", func(str *quic.Stream) {
			_, _ = str.Write(get("/hold"))
			_, _ = str.Read(make([]byte, 1))
			str.CancelRead(cancel)
			str.CancelWrite(cancel)
		}, func(st ServerStats) uint64 { return st.RequestsReset }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var log peer.Output
			s := newSiege(t, func(s *Server) { s.MaxResets, s.Logger = limit, textLog(&log) })
			s.attack(t, hostile.Result{Kind: "client", Fault: "rapid reset, " + tc.name}, func(t *testing.T) (int, string) {
				conns, tries := hostile.Size(1, 20), 0
				inRounds(t, conns, func(t *testing.T) {
					c := newRawClient(t, s.addr)
					for c.conn.Context().Err() == nil {
						str, err := c.conn.OpenStreamSync(timeout(t))
						if err != nil {
							break
						}
						tc.open(str)
						tries++
					}
					wantConnClosed(t, c, h3frame.ErrCodeExcessiveLoad)
				})
				stats := s.server.Stats()
				want(t, stats.RapidResets, uint64(conns))
				want(t, strings.Contains(log.String(), "code=H3_EXCESSIVE_LOAD"), true)
				want(t, tc.count(stats) > limit, true)
				return tries, fmt.Sprintf(`closed with H3_EXCESSIVE_LOAD after %d in 10 s; tailfin_server_abuse_closes_total{by="rapid_resets"} %d`, limit, stats.RapidResets)
			})
		})
	}
	t.Run("in one packet", func(t *testing.T) {
		s := newSiege(t, func(s *Server) { s.MaxResets = limit })
		s.attack(t, hostile.Result{Kind: "client", Fault: "rapid reset, HEADERS, STOP_SENDING and RESET_STREAM in one packet"}, func(t *testing.T) (int, string) {
			conns, tries := hostile.Size(1, 50), 0
			inRounds(t, conns, func(t *testing.T) {
				h, conn := s.dial(t)
				head := get("/hold")
				for id := int64(0); conn.Context().Err() == nil && id < 4000; id += 4 {
					frames := peer.AppendStreamFrame(nil, id, 0, head, false)
					frames = append(frames, peer.StopSendingFrame(uint64(id), uint64(cancel))...)
					frames = append(frames, peer.AppendResetFrame(nil, id, uint64(cancel), uint64(len(head)))...)
					if err := h.Send(frames); err != nil {
						t.Fatal(err)
					}
					tries++
					time.Sleep(time.Millisecond)
				}
				if err := s.ended(t, conn); !abused(err) {
					t.Errorf("ended with %v, want H3_EXCESSIVE_LOAD", err)
				}
			})
			return tries, fmt.Sprintf(`closed with H3_EXCESSIVE_LOAD after %d in 10 s; tailfin_server_abuse_closes_total{by="rapid_resets"} %d`, limit, s.server.Stats().RapidResets)
		})
	})
}

// TestHostileHTTPFloods has frames and streams of HTTP/3 that bring nothing.
func TestHostileHTTPFloods(t *testing.T) {
	const limit = 50
	control := append(h3frame.AppendStreamType(nil, h3frame.StreamControl), h3frame.AppendSettings(nil, h3frame.Settings{})...)
	grease := h3frame.AppendFrameHeader(nil, h3frame.FrameType(h3frame.Grease(1)), 0)
	empty := h3frame.AppendFrameHeader(nil, h3frame.FrameData, 0)
	many := func(b []byte) []byte { return bytes.Repeat(b, 2*limit) }
	for _, tc := range []struct {
		name string
		send func(t *testing.T, c *rawClient)
	}{
		{"unknown frames on the control stream", func(t *testing.T, c *rawClient) { c.sendUni(t, false, control, many(grease)) }},
		{"PRIORITY_UPDATE", func(t *testing.T, c *rawClient) {
			update := h3frame.AppendPriorityUpdate(nil, h3frame.FramePriorityUpdateRequest, 0, h3frame.DefaultPriority)
			c.sendUni(t, false, control, many(update))
		}},
		{"MAX_PUSH_ID", func(t *testing.T, c *rawClient) { c.sendUni(t, false, control, many(h3frame.AppendMaxPushID(nil, 0))) }},
		{"GOAWAY", func(t *testing.T, c *rawClient) { c.sendUni(t, false, control, many(h3frame.AppendGoAway(nil, 0))) }},
		{"unknown frames before a head", func(t *testing.T, c *rawClient) { c.send(t, many(grease), get("/")) }},
		{"empty DATA in a body", func(t *testing.T, c *rawClient) { c.send(t, post("/"), many(empty)) }},
		{"streams of unknown type", func(t *testing.T, c *rawClient) {
			for range 2 * limit {
				str, err := c.conn.OpenUniStreamSync(timeout(t))
				if err != nil {
					return
				}
				_, _ = str.Write(h3frame.AppendVarint(nil, h3frame.Grease(1)))
				_ = str.Close()
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSiege(t, func(s *Server) { s.MaxUselessFrames = limit })
			s.attack(t, hostile.Result{Kind: "client", Fault: "HTTP/3 floods of " + tc.name}, func(t *testing.T) (int, string) {
				conns := hostile.Size(1, 50)
				inRounds(t, conns, func(t *testing.T) {
					c := newRawClient(t, s.addr)
					tc.send(t, c)
					wantConnClosed(t, c, h3frame.ErrCodeExcessiveLoad)
				})
				want(t, s.server.Stats().FrameFloods, uint64(conns))
				return 2 * limit * conns, fmt.Sprintf(`closed with H3_EXCESSIVE_LOAD after %d in 10 s; tailfin_server_abuse_closes_total{by="useless_frames"} %d`, limit, conns)
			})
		})
	}
}

// bomb is a frame with a header that says how long it is.
func bomb(kind h3frame.FrameType, declared uint64, payload []byte) []byte {
	return append(h3frame.AppendFrameHeader(nil, kind, declared), payload...)
}

// TestHostileFieldSections has field sections made to cost memory or time.
func TestHostileFieldSections(t *testing.T) {
	const maxHeader = 16 << 10
	headers := func(payload ...byte) []byte { return bomb(h3frame.FrameHeaders, uint64(len(payload)), payload) }
	fields := func(n int, value string) []byte {
		list := []string{":method", "GET", ":scheme", "https", ":authority", "localhost", ":path", "/"}
		for i := range n {
			list = append(list, fmt.Sprintf("x-%d", i), value)
		}
		return section(list...)
	}
	bombs := []struct {
		name  string
		bytes []byte
		conn  h3frame.ErrorCode // that the connection ends with; 0 if it lives
	}{
		{"HEADERS of 2^62 bytes", bomb(h3frame.FrameHeaders, h3frame.MaxVarint, nil), 0},
		{"HEADERS of 1 GiB, and some", bomb(h3frame.FrameHeaders, 1<<30, make([]byte, 32<<10)), 0},
		{"a value of 64 KiB", get("/", "x", strings.Repeat("v", 64<<10)), 0},
		{"a value of 24 KiB that Huffman makes 15", get("/", "x", strings.Repeat("e", 24<<10)), 0},
		{"ten thousand fields", fields(10_000, "v"), 0},
		{"fields of names alone", fields(500, ""), 0},
		{"one field of the static table, 16,000 times", headers(append([]byte{0, 0}, bytes.Repeat([]byte{0xd1}, 16_000)...)...), 0},
		{"an integer of 62 bits as a name's length", headers(0, 0, 0x27, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f), h3frame.ErrCodeQPACKDecompressionFailed},
		{"an integer that never ends", headers(append([]byte{0, 0, 0x27}, bytes.Repeat([]byte{0xff}, 1000)...)...), h3frame.ErrCodeQPACKDecompressionFailed},
		{"an index beyond the static table", headers(0, 0, 0xff, 0xff, 0xff, 0x7f), h3frame.ErrCodeQPACKDecompressionFailed},
		{"a field of the dynamic table", headers(0, 0, 0x80), h3frame.ErrCodeQPACKDecompressionFailed},
		{"inserts that it needs", headers(0xff, 0xff, 0x7f, 0x00, 0x80), h3frame.ErrCodeQPACKDecompressionFailed},
		{"a base that never ends", headers(append([]byte{0}, bytes.Repeat([]byte{0xff}, 1000)...)...), h3frame.ErrCodeQPACKDecompressionFailed},
		{"Huffman codes that are none", headers(append([]byte{0, 0, 0x2f, 0x7f, 0x80, 0x7f}, bytes.Repeat([]byte{0xff}, 1000)...)...), h3frame.ErrCodeQPACKDecompressionFailed},
	}
	s := newSiege(t, func(s *Server) { s.MaxHeaderBytes = maxHeader })
	rounds := hostile.Size(1, 50)
	s.attack(t, hostile.Result{Kind: "client", Fault: "field sections made to cost memory, of each kind"}, func(t *testing.T) (int, string) {
		inRounds(t, rounds, func(t *testing.T) {
			for _, b := range bombs {
				c := newRawClient(t, s.addr)
				before := s.server.Stats()
				str, err := c.conn.OpenStreamSync(timeout(t))
				if err != nil {
					t.Fatal(err)
				}
				_ = str.SetDeadline(time.Now().Add(10 * time.Second))
				go func() { // it may be told to stop
					_, _ = str.Write(b.bytes)
					_ = str.Close()
				}()
				answer, err := io.ReadAll(str)
				if b.conn != 0 {
					wantConnClosed(t, c, b.conn)
					continue
				}
				after := s.server.Stats()
				if after.HeadersTooLarge+after.RequestsMalformed == before.HeadersTooLarge+before.RequestsMalformed {
					t.Errorf("%s: not refused: %d bytes of an answer, %v", b.name, len(answer), err)
				}
				if c.conn.Context().Err() != nil {
					t.Errorf("%s: the connection ended: %v", b.name, context.Cause(c.conn.Context()))
				}
			}
		})
		stats := s.server.Stats()
		return rounds * len(bombs), fmt.Sprintf("%d kinds; %d KiB a section (MaxHeaderBytes), then 431; what is no QPACK ends the connection; tailfin_server_requests_header_too_large_total %d", len(bombs), maxHeader>>10, stats.HeadersTooLarge)
	})
}

// TestHostileSettings has control and QPACK streams that are wrong or never end.
func TestHostileSettings(t *testing.T) {
	control := func(frames ...[]byte) []byte {
		return append(h3frame.AppendStreamType(nil, h3frame.StreamControl), bytes.Join(frames, nil)...)
	}
	settings := func(pairs ...uint64) []byte {
		var payload []byte
		for _, v := range pairs {
			payload = h3frame.AppendVarint(payload, v)
		}
		return bomb(h3frame.FrameSettings, uint64(len(payload)), payload)
	}
	var many []uint64
	for i := range uint64(100) {
		many = append(many, 1000+i, i)
	}
	qpackEncoder := h3frame.AppendStreamType(nil, h3frame.StreamQPACKEncoder)
	qpackDecoder := h3frame.AppendStreamType(nil, h3frame.StreamQPACKDecoder)
	streams := []struct {
		name  string
		bytes []byte
		want  h3frame.ErrorCode
	}{
		{"SETTINGS of 2^62 bytes", control(bomb(h3frame.FrameSettings, h3frame.MaxVarint, nil)), h3frame.ErrCodeExcessiveLoad},
		{"SETTINGS of 5 KiB", control(bomb(h3frame.FrameSettings, 5<<10, make([]byte, 5<<10))), h3frame.ErrCodeExcessiveLoad},
		{"a hundred settings", control(settings(many...)), h3frame.ErrCodeExcessiveLoad},
		{"a setting twice", control(settings(0x21, 1, 0x21, 1)), h3frame.ErrCodeSettings},
		{"a setting of HTTP/2", control(settings(0x2, 1)), h3frame.ErrCodeSettings},
		{"a boolean of 2", control(settings(0x8, 2)), h3frame.ErrCodeSettings},
		{"half a setting", control(bomb(h3frame.FrameSettings, 1, []byte{0x40})), h3frame.ErrCodeFrame},
		{"SETTINGS twice", control(settings(), settings()), h3frame.ErrCodeFrameUnexpected},
		{"no SETTINGS", control(h3frame.AppendGoAway(nil, 0)), h3frame.ErrCodeMissingSettings},
		{"PRIORITY_UPDATE of 1 GiB", control(settings(), bomb(h3frame.FramePriorityUpdateRequest, 1<<30, nil)), h3frame.ErrCodeExcessiveLoad},
		{"GOAWAY of 100 bytes", control(settings(), bomb(h3frame.FrameGoAway, 100, nil)), h3frame.ErrCodeFrame},
		{"DATA on the control stream", control(settings(), bomb(h3frame.FrameData, 1<<30, nil)), h3frame.ErrCodeFrameUnexpected},
		{"inserts into the dynamic table", append(qpackEncoder, bytes.Repeat([]byte{0xc0, 0x01, 'x'}, 1000)...), h3frame.ErrCodeQPACKEncoderStream},
		{"a dynamic table of 1 GiB", append(qpackEncoder, 0x3f, 0xe1, 0xff, 0xff, 0xff, 0x03), h3frame.ErrCodeQPACKEncoderStream},
		{"an integer that never ends", append(qpackDecoder, bytes.Repeat([]byte{0xff}, 1000)...), h3frame.ErrCodeQPACKDecoderStream},
	}
	s := newSiege(t, nil)
	rounds := hostile.Size(1, 50)
	s.attack(t, hostile.Result{Kind: "client", Fault: "SETTINGS and QPACK streams that are wrong or huge, of each kind"}, func(t *testing.T) (int, string) {
		inRounds(t, rounds, func(t *testing.T) {
			for _, b := range streams {
				c := newRawClient(t, s.addr)
				c.sendUni(t, false, b.bytes)
				wantConnClosed(t, c, b.want)
			}
		})
		return rounds * len(streams), fmt.Sprintf("%d kinds; 4 KiB and 64 settings, no dynamic table; the connection ends with the code that RFC 9114 and RFC 9204 have for it", len(streams))
	})
	s = newSiege(t, nil)
	s.attack(t, hostile.Result{Kind: "client", Fault: "QPACK instructions without end that change nothing"}, func(t *testing.T) (int, string) {
		c := newRawClient(t, s.addr)
		n := 0
		for _, stream := range [][][]byte{{qpackEncoder, {0x20}}, {qpackDecoder, {0x40}}} {
			str := c.sendUni(t, false, stream[0])
			piece := bytes.Repeat(stream[1], 50_000)
			for range hostile.Size(1, 400) {
				if _, err := str.Write(piece); err != nil {
					t.Fatal(err)
				}
				n += len(piece)
			}
		}
		if err := c.conn.Context().Err(); err != nil {
			t.Errorf("the connection ended: %v", context.Cause(c.conn.Context()))
		}
		return n, "read in pieces of 64 bytes, and nothing kept; a byte each"
	})
}

// TestHostileVersions has packets of versions that there are not, and version negotiation
// that nobody has asked for: a server answers little to what may be forged.
func TestHostileVersions(t *testing.T) {
	s := newSiege(t, nil)
	s.attack(t, hostile.Result{Kind: "peer", Fault: "noise of versions, from forged addresses"}, func(t *testing.T) (int, string) {
		spoofer, err := peer.NewSpoofer(s.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(spoofer.Close)
		n, sent := hostile.Size(2000, 500_000), 0
		versions := []uint32{0, 2, 0x0a0a0a0a, 0xff00001d, 0x6b3343cf}
		if err := spoofer.Send(n, func(i int) ([]byte, net.IP) {
			p := make([]byte, []int{20, 100, 1200}[i%3])
			v := versions[i%len(versions)]
			copy(p, []byte{0xc0, byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v), 8, byte(i), byte(i >> 8), 3, 4, 5, 6, 7, 8, 4, 1, 2, 3, 4})
			sent += len(p)
			return p, peer.Source(i)
		}, func() { time.Sleep(time.Millisecond) }); err != nil {
			t.Fatal(err)
		}
		_, answers, back := spoofer.Answers(200 * time.Millisecond)
		if back > sent {
			t.Errorf("%d bytes were answered by %d", sent, back)
		}
		if s.server.DroppedPackets() == 0 {
			t.Error("nothing counts as dropped")
		}
		return n, fmt.Sprintf("%d answers, of 1/%d of the bytes; tailfin_server_stray_packets_total %d", answers, sent/max(back, 1), s.server.DroppedPackets())
	})
}

// TestHostileDatagrams has HTTP datagrams for no request, and for one that reads none.
func TestHostileDatagrams(t *testing.T) {
	s := newSiege(t, func(s *Server) { s.EnableDatagrams = true })
	s.attack(t, hostile.Result{Kind: "client", Fault: "a flood of HTTP datagrams"}, func(t *testing.T) (int, string) {
		c := dialRaw(t, s.addr, &quic.Config{EnableDatagrams: true})
		held := c.start(t, get("/hold"))
		_, _ = held.Read(make([]byte, 1))
		n := hostile.Size(400, 100_000)
		for i := range n {
			id := uint64(held.StreamID())
			if i%2 == 1 {
				id = 4000
			}
			if err := c.conn.SendDatagram(h3frame.AppendDatagram(nil, id, make([]byte, 1000))); err != nil {
				t.Fatal(err)
			}
			pace(i)
		}
		eventually(t, "they are counted", func() bool {
			st := s.server.Stats()
			return st.DatagramsStray > 0 && st.DatagramsDropped > 0
		})
		st := s.server.Stats()
		return n, fmt.Sprintf("%d a request wait; tailfin_server_http_datagrams_dropped_total %d, …_stray_total %d", datagramQueueLen, st.DatagramsDropped, st.DatagramsStray)
	})
}

// TestHostileGarbage has datagrams of every kind, real ones that were made wrong, arrive
// beside uploads.
func TestHostileGarbage(t *testing.T) {
	corpus, err := peer.Record(timeout(t), cert(t))
	if err != nil {
		t.Fatal(err)
	}
	s := newSiege(t, nil)
	s.attack(t, hostile.Result{Kind: "peer", Fault: "datagrams made wrong, of every kind of packet, in the process of the server"}, func(t *testing.T) (int, string) {
		spoofer, err := peer.NewSpoofer(s.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(spoofer.Close)
		garbage := peer.NewGarbage(corpus, nil, 8)
		n := hostile.Size(4000, 1_000_000)
		if err := spoofer.Send(n, func(i int) ([]byte, net.IP) { return garbage.Next(), peer.Source(i % 1000) }, func() { time.Sleep(time.Millisecond) }); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is counted", func() bool { return s.server.DroppedPackets() > uint64(n)/10 })
		return n, fmt.Sprintf("of %d real datagrams; tailfin_server_stray_packets_total %d", len(corpus), s.server.DroppedPackets())
	})
}
