package tailfin

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/h3frame"
)

// pace lets a server keep up with packets that are sent without looking at what it says: a
// connection takes 256 that wait (quic-go v0.65.0), and what comes beside it is dropped.
func pace(i int) {
	const train = 32
	if i%train == train-1 {
		time.Sleep(time.Millisecond)
	}
}

// abused tells a connection that we have closed for abuse.
func abused(err error) bool {
	var closed *quic.ApplicationError
	return errors.As(err, &closed) && !closed.Remote && h3frame.ErrorCode(closed.ErrorCode) == h3frame.ErrCodeExcessiveLoad
}

// received is how many packets the server has taken from a connection.
func (s *siege) received(c *quic.Conn) int {
	b, ok := c.QlogTrace().(*barrier)
	if !ok {
		return 0
	}
	return int(b.received.Load())
}

// TestHostileFrameFloods has connections that fill packet after packet with frames that are
// legal and bring nothing, until they are closed.
func TestHostileFrameFloods(t *testing.T) {
	for _, tc := range []struct {
		name  string
		frame func(i int) []byte // number i of the connection
	}{
		{"PING frames", func(int) []byte { return peer.AppendPingFrame(nil) }},
		{"PATH_CHALLENGE frames", func(i int) []byte { return peer.PathChallengeFrame(uint64(i)) }},
		{"NEW_CONNECTION_ID frames that retire the one before", func(i int) []byte { return peer.NewConnectionIDFrame(uint64(i)+1000, uint64(i)+1000) }},
		{"RETIRE_CONNECTION_ID frames", func(i int) []byte { return peer.RetireConnectionIDFrame(uint64(i)/4 + 2) }},
		{"MAX_DATA frames", func(i int) []byte { return peer.MaxDataFrame(uint64(i)) }},
		{"MAX_STREAMS frames", func(i int) []byte { return peer.MaxStreamsFrame(uint64(i)) }},
		{"DATA_BLOCKED frames", func(i int) []byte { return peer.DataBlockedFrame(uint64(i)) }},
		{"STREAMS_BLOCKED frames", func(i int) []byte { return peer.StreamsBlockedFrame(uint64(i)) }},
		{"STREAM frames without bytes", func(int) []byte { return peer.AppendStreamFrame(nil, 0, 0, nil, false) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSiege(t, func(s *Server) { s.MaxUselessFrames = 500 })
			conns := hostile.Size(1, 10)
			s.attack(t, hostile.Result{Kind: "client", Fault: "floods of " + tc.name}, func(t *testing.T) (int, string) {
				sent, packets := 0, 0
				inRounds(t, conns, func(t *testing.T) {
					h, conn := s.dial(t)
					n := 0
					for conn.Context().Err() == nil {
						if err := h.Send(h.Fill(func(int) []byte { n++; return tc.frame(n - 1) })); err != nil {
							t.Fatal(err)
						}
						n--                          // the last did not fit
						time.Sleep(time.Millisecond) // it is about to be closed
					}
					if err := s.ended(t, conn); !abused(err) {
						t.Errorf("ended with %v, want H3_EXCESSIVE_LOAD", err)
					}
					sent, packets = sent+n, packets+s.received(conn)
				})
				if got := s.server.Stats().FrameFloods; got != uint64(conns) {
					t.Errorf("FrameFloods is %d, want %d", got, conns)
				}
				return sent, fmt.Sprintf(`closed with H3_EXCESSIVE_LOAD at 500 in 10 s, %d connections after %d packets that were read; tailfin_server_abuse_closes_total{by="useless_frames"} %d`, conns, packets, conns)
			})
		})
	}
}

// TestHostilePackets has connections that send packet after packet of what a server bears:
// they stay open, and cost no memory that lasts.
func TestHostilePackets(t *testing.T) {
	for _, tc := range []struct {
		name    string
		packets int // in the usual size; 500 times as many in full
		frames  func(h *peer.Hostile, i int) []byte
		bound   func(s *siege, conn *quic.Conn) string
	}{
		{name: "one PING a packet", packets: 300, frames: func(*peer.Hostile, int) []byte { return peer.AppendPingFrame(nil) }},
		{name: "packets of PADDING", packets: 300, frames: func(h *peer.Hostile, _ int) []byte { return make([]byte, h.Room()) }},
		{name: "the same ACK again and again", packets: 60, frames: func(h *peer.Hostile, _ int) []byte {
			return h.Fill(func(int) []byte { return peer.AckFrame(0, 0) })
		}},
		{name: "STREAM_DATA_BLOCKED on every stream", packets: 60, frames: func(h *peer.Hostile, _ int) []byte {
			return h.Fill(func(i int) []byte { return peer.StreamDataBlockedFrame(uint64(4*(i%100)), uint64(i)) })
		}, bound: func(*siege, *quic.Conn) string { return "100 streams" }},
		{name: "MAX_STREAM_DATA on every stream", packets: 60, frames: func(h *peer.Hostile, _ int) []byte {
			return h.Fill(func(i int) []byte { return peer.MaxStreamDataFrame(uint64(4*(i%100)), uint64(i)) })
		}, bound: func(*siege, *quic.Conn) string { return "100 streams" }},
		{name: "the same STREAM bytes again and again", packets: 60, frames: func(h *peer.Hostile, _ int) []byte {
			return h.Fill(func(int) []byte { return peer.AppendStreamFrame(nil, 0, 1, []byte{0}, false) })
		}, bound: func(*siege, *quic.Conn) string { return "one byte held" }},
		{name: "gaps in handshake data after the handshake", packets: 60, frames: func(h *peer.Hostile, p int) []byte {
			i := 0
			return h.Fill(func(int) []byte { i++; return peer.CryptoFrame(uint64(2*((p*200+i)%400)+1), []byte{0}) })
		}, bound: func(*siege, *quic.Conn) string { return "quic-go keeps 16 KiB of it, and 1,000 gaps" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSiege(t, nil)
			s.attack(t, hostile.Result{Kind: "client", Fault: "a flood: " + tc.name}, func(t *testing.T) (int, string) {
				h, conn := s.dial(t)
				n := hostile.Size(tc.packets, 500*tc.packets)
				for i := range n {
					if err := h.Send(tc.frames(h, i)); err != nil {
						t.Fatal(err)
					}
					pace(i)
				}
				if conn.Context().Err() != nil {
					t.Errorf("the connection was ended: %v", s.ended(t, conn))
				}
				bound := fmt.Sprintf("the connection stays, and is of no use: %d packets were read; tailfin_udp_received_datagrams_total counts them", s.received(conn))
				if tc.bound != nil {
					bound += "; " + tc.bound(s, conn)
				}
				return n, bound
			})
		})
	}
}

// TestHostileGaps has the pieces of a request body arrive with a gap before each: what has
// to be put together later must not grow.
func TestHostileGaps(t *testing.T) {
	const streams, bytesApart, window = 100, 1000, 112 << 10
	s := newSiege(t, func(s *Server) { s.ReadHeaderTimeout = time.Second })
	s.attack(t, hostile.Result{Kind: "client", Fault: "STREAM frames of a byte, one a kB, on all streams"}, func(t *testing.T) (int, string) {
		h, conn := s.dial(t)
		sent, packets := 0, 0
		var frames []byte
		flush := func() {
			if err := h.Send(frames); err != nil {
				t.Fatal(err)
			}
			pace(packets)
			packets++
			frames = nil
		}
		for id := range int64(streams) {
			for offset := 1; offset < window; offset += bytesApart {
				f := peer.AppendStreamFrame(nil, 4*id, offset, []byte{1}, false)
				if len(frames)+len(f) > h.Room() {
					flush()
				}
				frames = append(frames, f...)
				sent++
			}
		}
		flush()
		held := levelHeld().heap
		if err := conn.Context().Err(); err != nil {
			t.Errorf("the connection was ended: %v", err)
		}
		return sent, fmt.Sprintf("%d streams (quic.Config.MaxIncomingStreams), a window of %d kB each; %d MB held by both sides; header timeouts then, tailfin_server_timeouts_total{of=\"head\"}", streams, window>>10, held>>20)
	})
	s = newSiege(t, nil)
	s.attack(t, hostile.Result{Kind: "client", Fault: "STREAM frames of a byte, every other byte"}, func(t *testing.T) (int, string) {
		conns, sent := hostile.Size(1, 50), 0
		inRounds(t, conns, func(t *testing.T) {
			h, conn := s.dial(t)
			for i := 0; conn.Context().Err() == nil && i < 20; i++ {
				if err := h.Send(h.Fill(func(int) []byte { sent++; return peer.AppendStreamFrame(nil, 0, 2*sent+1, []byte{1}, false) })); err != nil {
					t.Fatal(err)
				}
			}
			var ended *quic.TransportError
			if err := s.ended(t, conn); !errors.As(err, &ended) || ended.Remote {
				t.Errorf("ended with %v, want a transport error of ours", err)
			}
		})
		return sent, "quic-go ends a connection with more than 1,000 gaps in a stream"
	})
}

// TestHostileViolations has frames that no peer may send, each on a connection of its own,
// which ends for it.
func TestHostileViolations(t *testing.T) {
	one := []byte{1}
	violations := []struct {
		name   string
		frames []byte
		want   quic.TransportErrorCode
	}{
		{"ACK of what was never sent", peer.AckFrame(1<<20, 0), quic.ProtocolViolation},
		{"ACK of 500 ranges of what was never sent", peer.AckRangesFrame(1<<20, 500), quic.ProtocolViolation},
		{"ACK below zero", peer.AckFrame(1, 5), quic.FrameEncodingError},
		{"STREAM beyond the streams", peer.AppendStreamFrame(nil, 4*100_000, 0, one, false), quic.StreamLimitError},
		{"STREAM beyond the window", peer.AppendStreamFrame(nil, 0, 1<<28, one, false), quic.FlowControlError},
		{"STREAM beyond 2^62", append([]byte{0x0c, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, make([]byte, 8)...), quic.FrameEncodingError},
		{"STREAM on a stream of the server's", peer.AppendStreamFrame(nil, 1, 0, one, false), quic.StreamStateError},
		{"STREAM longer than its packet", []byte{0x0a, 0x00, 0x40, 0xff}, quic.FrameEncodingError},
		{"RESET_STREAM beyond the window", peer.AppendResetFrame(nil, 0, 0, 1<<28), quic.FlowControlError},
		{"a final size that changes", append(peer.AppendStreamFrame(nil, 0, 5, one, true), peer.AppendStreamFrame(nil, 0, 9, one, true)...), quic.FinalSizeError},
		{"a byte behind the end", append(peer.AppendStreamFrame(nil, 0, 5, one, true), peer.AppendStreamFrame(nil, 0, 9, one, false)...), quic.FinalSizeError},
		{"STOP_SENDING on a stream that only we send on", peer.StopSendingFrame(4*1000+3, 0), quic.StreamStateError},
		{"MAX_STREAM_DATA on a stream that is not there", peer.MaxStreamDataFrame(1, 5), quic.StreamStateError},
		{"MAX_STREAMS beyond 2^60", peer.MaxStreamsFrame(1 << 61), quic.FrameEncodingError},
		{"handshake data beyond 16 KiB", peer.CryptoFrame(1<<20, one), quic.CryptoBufferExceeded},
		{"four connection IDs more", slices.Concat(peer.NewConnectionIDFrame(1001, 0), peer.NewConnectionIDFrame(1002, 0), peer.NewConnectionIDFrame(1003, 0), peer.NewConnectionIDFrame(1004, 0)), quic.ConnectionIDLimitError},
		{"an ID retired that was never issued", peer.RetireConnectionIDFrame(1000), quic.ProtocolViolation},
		{"PATH_RESPONSE unasked", peer.PathResponseFrame(7), quic.ProtocolViolation},
		{"HANDSHAKE_DONE of a client", []byte{0x1e}, quic.ProtocolViolation},
		{"NEW_TOKEN of a client", []byte{0x07, 1, 1}, quic.ProtocolViolation},
		{"a frame type that is not there", []byte{0x40, 0x7f, 0, 0}, quic.FrameEncodingError},
		{"DATAGRAM without leave", []byte{0x30, 1, 2, 3}, quic.FrameEncodingError},
	}
	s := newSiege(t, nil)
	rounds := hostile.Size(1, 20)
	s.attack(t, hostile.Result{Kind: "client", Fault: "frames that break QUIC, of each kind"}, func(t *testing.T) (int, string) {
		inRounds(t, rounds, func(t *testing.T) {
			for _, v := range violations {
				h, conn := s.dial(t)
				if err := h.Send(v.frames); err != nil {
					t.Fatal(err)
				}
				var ended *quic.TransportError
				if err := s.ended(t, conn); !errors.As(err, &ended) || ended.Remote || ended.ErrorCode != v.want {
					t.Errorf("%s: ended with %v, want %s", v.name, err, v.want)
				}
			}
		})
		return rounds * len(violations), fmt.Sprintf("%d kinds; the connection ends with the code that RFC 9000 has for it, at the first packet", len(violations))
	})
}

// TestHostileOptimisticAck acknowledges packets of a download before they can have come,
// to have the server send faster than the path carries.
func TestHostileOptimisticAck(t *testing.T) {
	s := newSiege(t, nil)
	conns := hostile.Size(3, 100)
	s.attack(t, hostile.Result{Kind: "client", Fault: "ACKs of packets that were not received"}, func(t *testing.T) (int, string) {
		acks := 0
		inRounds(t, conns, func(t *testing.T) {
			h, conn := s.dial(t)
			if err := h.Send(peer.AppendStreamFrame(nil, 0, 0, get("/endless"), true)); err != nil {
				t.Fatal(err)
			}
			for largest := uint64(8); conn.Context().Err() == nil && acks < 1<<20; largest += 8 {
				if err := h.Send(peer.AckFrame(largest, largest)); err != nil {
					t.Fatal(err)
				}
				acks++
				time.Sleep(100 * time.Microsecond)
			}
			var ended *quic.TransportError
			if err := s.ended(t, conn); !errors.As(err, &ended) || ended.Remote || ended.ErrorCode != quic.ProtocolViolation && ended.ErrorCode != quic.KeyUpdateError {
				t.Errorf("ended with %v, want PROTOCOL_VIOLATION or KEY_UPDATE_ERROR", err)
			}
		})
		return acks, fmt.Sprintf("%d connections ended with PROTOCOL_VIOLATION or KEY_UPDATE_ERROR after %d ACKs: for a number that was skipped (quic-go skips some), not sent yet, or sent with keys that the client has not gone on to", conns, acks)
	})
}

// TestHostileForgeries has packets of those who know a connection ID and not its keys.
func TestHostileForgeries(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(h *peer.Hostile, i int) []byte
	}{
		{"packets with a wrong tag", func(h *peer.Hostile, i int) []byte { return h.Forge(30 + i%1170) }},
		{"guesses of a stateless reset", func(h *peer.Hostile, i int) []byte {
			p := h.Forge(21 + i%40)
			for j := range 16 {
				p[len(p)-1-j] = byte(i * (j + 7))
			}
			return p
		}},
		{"key updates that never were", func(h *peer.Hostile, i int) []byte {
			p := h.Forge(100)
			p[0] ^= byte(i) & 0x1f // under header protection: key phase, reserved bits, length
			return p
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSiege(t, nil)
			s.attack(t, hostile.Result{Kind: "peer", Fault: tc.name}, func(t *testing.T) (int, string) {
				h, conn := s.dial(t)
				elsewhere := listenUDP(t)
				n := hostile.Size(500, 200_000)
				for i := range n {
					if err := h.SendFrom(elsewhere, tc.make(h, i)); err != nil {
						t.Fatal(err)
					}
					pace(i)
				}
				eventually(t, "forged packets are counted", func() bool { return s.server.Stats().PacketsDropped > uint64(n)/4 })
				if err := conn.Context().Err(); err != nil {
					t.Errorf("the connection was ended: %v", err)
				}
				return n, fmt.Sprintf("the connection stays; tailfin_server_dropped_packets_total %d, some are dropped by the kernel", s.server.Stats().PacketsDropped)
			})
		})
	}
}

// TestHostileAddresses has authentic packets arrive from addresses that their sender does
// not have, as an attacker on the way can do it.
func TestHostileAddresses(t *testing.T) {
	s := newSiege(t, nil)
	s.attack(t, hostile.Result{Kind: "peer", Fault: "authentic packets from forged addresses"}, func(t *testing.T) (int, string) {
		h, conn := s.dial(t)
		home := conn.RemoteAddr().String()
		addrs := hostile.Size(100, 5000)
		for i := range addrs {
			elsewhere, err := net.ListenUDP("udp4", &net.UDPAddr{IP: peer.Source(i)})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := h.SendFrom(elsewhere, h.Seal(peer.AppendStreamFrame(nil, 0, 0, []byte{1}, false))); err != nil {
					t.Fatal(err)
				}
			}
			_ = elsewhere.Close()
			pace(i)
		}
		if err := h.Send(peer.AppendPingFrame(nil)); err != nil {
			t.Fatal(err)
		}
		if now := conn.RemoteAddr().String(); now != home {
			t.Errorf("the connection went from %s to %s", home, now)
		}
		if err := conn.Context().Err(); err != nil {
			t.Errorf("the connection was ended: %v", err)
		}
		return addrs, "quic-go follows three paths at a time, and none that has not answered a PATH_CHALLENGE"
	})
}

// TestHostileTrains has trains of as many datagrams as the kernel makes, of odd sizes.
func TestHostileTrains(t *testing.T) {
	s := newSiege(t, nil)
	s.attack(t, hostile.Result{Kind: "client", Fault: "trains of 64 segments of odd sizes"}, func(t *testing.T) (int, string) {
		h, conn := s.dial(t)
		const segments = 64 // UDP_MAX_SEGMENTS was that before Linux 6.9
		trains := hostile.Size(50, 5000)
		for i := range trains {
			size, last := 1+i*37%900, i*13%(1+i*37%900)
			var list [][]byte
			for k := range segments {
				n := size
				if k == segments-1 {
					n = last
				}
				list = append(list, h.Seal(make([]byte, n)))
			}
			if len(list[segments-1]) > len(list[0]) {
				list = list[:segments-1]
			}
			if err := h.SendTrain(list...); err != nil {
				t.Skipf("the kernel sends no trains: %v", err)
			}
			time.Sleep(time.Millisecond)
		}
		if err := conn.Context().Err(); err != nil {
			t.Errorf("the connection was ended: %v", err)
		}
		return trains * segments, fmt.Sprintf("%d packets were read, each as it was sent; tailfin_udp_received_trains_total", s.received(conn))
	})
}

// listenUDP is a socket on loopback until the test ends.
func listenUDP(t *testing.T) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
