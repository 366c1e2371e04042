package udp

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// cmsgAt is the header at the start of a control message.
func cmsgAt(b []byte) *unix.Cmsghdr { return (*unix.Cmsghdr)(unsafe.Pointer(&b[0])) }

// cmsg makes a control message.
func cmsg(level, typ int32, data []byte) []byte {
	b := make([]byte, unix.CmsgSpace(len(data)))
	h := cmsgAt(b)
	h.Level, h.Type = level, typ
	h.SetLen(unix.CmsgLen(len(data)))
	copy(b[unix.CmsgLen(0):], data)
	return b
}

func groCmsg(segment int) []byte {
	var v [4]byte
	binary.NativeEndian.PutUint32(v[:], uint32(segment))
	return cmsg(unix.IPPROTO_UDP, unix.UDP_GRO, v[:])
}

func TestControlParser(t *testing.T) {
	tos := cmsg(unix.IPPROTO_IP, unix.IP_TOS, []byte{2})
	info := cmsg(unix.IPPROTO_IP, unix.IP_PKTINFO, make([]byte, 12))
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for name, tc := range map[string]struct {
		in      []byte
		rest    []byte
		segment int
	}{
		"nothing":          {nil, nil, 0},
		"no GRO":           {join(tos, info), join(tos, info), 0},
		"GRO alone":        {groCmsg(1252), nil, 1252},
		"GRO first":        {join(groCmsg(1), tos, info), join(tos, info), 1},
		"GRO between":      {join(tos, groCmsg(1452), info), join(tos, info), 1452},
		"GRO last":         {join(tos, info, groCmsg(65000)), join(tos, info), 65000},
		"GRO of no use":    {join(tos, groCmsg(-1)), tos, 0},
		"GRO cut off":      {join(tos, groCmsg(7)[:unix.CmsgLen(2)]), join(tos, groCmsg(7)[:unix.CmsgLen(2)]), 0},
		"header cut off":   {join(tos, groCmsg(7)[:10]), join(tos, groCmsg(7)[:10]), 0},
		"unpadded at end":  {join(tos, groCmsg(7)[:unix.CmsgLen(4)]), tos, 7},
		"length too short": {append([]byte{1, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 16)...), append([]byte{1, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 16)...), 0},
	} {
		var p controlParser
		rest, segment := p.parse(tc.in)
		if !bytes.Equal(rest, tc.rest) || segment != tc.segment {
			t.Errorf("%s: %d bytes left and segment %d, want %d and %d", name, len(rest), segment, len(tc.rest), tc.segment)
		}
	}
}

// listSource gives out packets from a list.
type listSource struct{ packets []packet }

func (l *listSource) next() (packet, bool) {
	if len(l.packets) == 0 {
		return packet{}, false
	}
	p := l.packets[0]
	l.packets = l.packets[1:]
	return p, true
}

// FuzzSplit takes whatever control data and payload the kernel could give, and
// holds that no byte is lost, moved or made up.
func FuzzSplit(f *testing.F) {
	f.Add(groCmsg(3), []byte("aaabbbcc"), 2, 1452)
	f.Add([]byte(nil), []byte("one datagram"), 8, 5)
	f.Add(bytes.Join([][]byte{cmsg(unix.IPPROTO_IP, unix.IP_TOS, []byte{1}), groCmsg(1000)}, nil), bytes.Repeat([]byte("x"), 64_000), 3, 1452)
	f.Fuzz(func(t *testing.T, control, payload []byte, batch, room int) {
		if len(control) > oobSize || len(payload) > trainPayload {
			return
		}
		batch, room = 1+(batch&15), room&2047
		var parser controlParser
		rest, segment := parser.parse(control)
		if segment < 0 || len(rest) > len(control) {
			t.Fatalf("segment %d, %d of %d bytes of control data kept", segment, len(rest), len(control))
		}
		var stats counters
		s := splitter{src: &listSource{[]packet{{addr: &net.UDPAddr{}, payload: payload, segment: segment, control: rest}}}, stats: &stats}
		ms := messages(batch)
		for i := range ms {
			ms[i].Buffers[0] = make([]byte, room)
			ms[i].OOB = make([]byte, oobSize)
		}
		var got []byte
		count := 0
		for {
			n := s.fill(ms)
			if n == 0 {
				break
			}
			for _, m := range ms[:n] {
				got = append(got, m.Buffers[0][:m.N]...)
				if !bytes.Equal(m.OOB[:m.NN], rest) {
					t.Fatal("control data differs")
				}
			}
			count += n
		}
		want := 1
		if segment > 0 && len(payload) > 0 {
			want = (len(payload) + segment - 1) / segment
		}
		if count+int(stats.truncated.Load()) != want {
			t.Fatalf("%d datagrams and %d dropped of %d", count, stats.truncated.Load(), want)
		}
		if stats.truncated.Load() == 0 && !bytes.Equal(got, payload) {
			t.Fatal("the payload differs")
		}
	})
}

// BenchmarkReadBatch sends trains of 16 and reads them, on one goroutine.
func BenchmarkReadBatch(b *testing.B) {
	for _, backend := range []Backend{Uring, Mmsg, Msg} {
		b.Run(backend.String(), func(b *testing.B) {
			c, err := Listen("udp", "127.0.0.1:0", WithBackend(backend))
			if err != nil {
				b.Skip(err)
			}
			defer func() { _ = c.Close() }()
			train := make([]byte, 16*1252)
			oob := segmentCmsg(1252)
			ms := messages(8)
			to := c.LocalAddr().(*net.UDPAddr)
			b.SetBytes(int64(len(train)))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := c.WriteMsgUDP(train, oob, to); err != nil {
					b.Fatal(err)
				}
				for got := 0; got < 16; {
					n, err := c.ReadBatch(ms, 0)
					if err != nil {
						b.Fatal(err)
					}
					got += n
				}
			}
		})
	}
}
