package udp

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/uring"
)

// sendTrain sends with GSO, and returns the datagrams.
func sendTrain(t *testing.T, s *net.UDPConn, segment int, payload []byte) [][]byte {
	t.Helper()
	if _, _, err := s.WriteMsgUDP(payload, segmentCmsg(uint16(segment)), nil); err != nil {
		t.Skipf("no GSO here: %v", err)
	}
	var want [][]byte
	for rest := payload; len(rest) > 0; {
		n := min(segment, len(rest))
		want, rest = append(want, rest[:n]), rest[n:]
	}
	return want
}

// TestTrains sends trains of every length, with short and full tails. With GRO
// off the kernel splits them itself, and the reader must see the same.
func TestTrains(t *testing.T) {
	each(t, func(t *testing.T, listen func(*testing.T, string, string) *Conn) {
		c := listen(t, "udp", "127.0.0.1:0")
		s := dial(t, c)
		for _, tc := range []struct{ segment, count, tail int }{
			{1252, 2, 0}, {1252, 16, 1}, {1252, 44, 700}, {1000, 64, 0}, {1000, 63, 999}, {1, 64, 0}, {1452, 1, 1},
		} {
			payload := make([]byte, tc.segment*tc.count+tc.tail)
			for i := range payload {
				payload[i] = byte(i * 31 >> 3)
			}
			want := sendTrain(t, s, tc.segment, payload)
			for i, d := range collect(t, c, len(want)) {
				if !bytes.Equal(d, want[i]) {
					t.Fatalf("%+v: datagram %d of %d has %d bytes, want %d", tc, i, len(want), len(d), len(want[i]))
				}
			}
		}
		st := c.Stats()
		if c.GRO() && (st.Trains == 0 || st.MaxTrain < 44) {
			t.Errorf("GRO is on and no trains came: %+v", st)
		}
		if !c.GRO() && st.Trains != 0 {
			t.Errorf("GRO is off and trains came: %+v", st)
		}
	})
}

// TestTrainsOverSmallBatches carries what is left of a train over.
func TestTrainsOverSmallBatches(t *testing.T) {
	each(t, func(t *testing.T, listen func(*testing.T, string, string) *Conn) {
		c := listen(t, "udp", "127.0.0.1:0")
		s := dial(t, c)
		payload := make([]byte, 20*100+50)
		_, _ = rand.Read(payload)
		want := sendTrain(t, s, 100, payload)
		ms := messages(3)
		for i := 0; i < len(want); {
			n, err := c.ReadBatch(ms[:1+i%3], 0)
			if err != nil {
				t.Fatal(err)
			}
			for k := range n {
				if !bytes.Equal(ms[k].Buffers[0][:ms[k].N], want[i]) {
					t.Fatalf("datagram %d differs", i)
				}
				i++
			}
		}
	})
}

// TestControlMessages asks for what quic-go asks for, after the Conn was made,
// and for IPv4 on a dual-stack socket, which has the longest answer.
func TestControlMessages(t *testing.T) {
	each(t, func(t *testing.T, listen func(*testing.T, string, string) *Conn) {
		for _, network := range []string{"udp4", "udp"} {
			c := listen(t, network, ":0")
			raw, err := c.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			_ = raw.Control(func(fd uintptr) {
				_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVTOS, 1)
				_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1)
				_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
				_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
			})
			to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: c.LocalAddr().(*net.UDPAddr).Port}
			s, err := net.DialUDP("udp4", nil, to)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			// ECN changes between trains: each keeps its own mark.
			marks := []byte{1, 2, 3, 0}
			for _, ecn := range marks {
				tos := make([]byte, unix.CmsgSpace(4))
				h := cmsgAt(tos)
				h.Level, h.Type = unix.IPPROTO_IP, unix.IP_TOS
				h.SetLen(unix.CmsgLen(4))
				binary.NativeEndian.PutUint32(tos[unix.CmsgLen(0):], uint32(ecn))
				if _, _, err := s.WriteMsgUDP(bytes.Repeat([]byte{ecn}, 300), append(tos, segmentCmsg(100)...), nil); err != nil {
					t.Skipf("no GSO here: %v", err)
				}
			}
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
			ms := messages(8)
			for got := 0; got < 3*len(marks); {
				n, err := c.ReadBatch(ms, 0)
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range ms[:n] {
					if m.N != 100 {
						t.Fatalf("%d bytes, want 100", m.N)
					}
					checkControl(t, m, m.Buffers[0][0])
					got++
				}
			}
		}
	})
}

// checkControl wants ECN and packet info and no trace of GRO.
func checkControl(t *testing.T, m ipv4.Message, ecn byte) {
	t.Helper()
	list, err := unix.ParseSocketControlMessage(m.OOB[:m.NN])
	if err != nil {
		t.Fatal(err)
	}
	var sawECN, sawInfo bool
	for _, c := range list {
		switch {
		case c.Header.Level == unix.IPPROTO_IP && c.Header.Type == unix.IP_TOS:
			sawECN = true
			if len(c.Data) != 1 || c.Data[0]&3 != ecn {
				t.Errorf("TOS %v, sent with ECN %d", c.Data, ecn)
			}
		case c.Header.Level == unix.IPPROTO_IP && c.Header.Type == unix.IP_PKTINFO:
			sawInfo = true
		case c.Header.Level == unix.IPPROTO_UDP:
			t.Errorf("UDP_GRO was not taken out: %v", c.Header)
		}
	}
	if !sawECN || !sawInfo {
		t.Errorf("ECN %v, packet info %v, want both", sawECN, sawInfo)
	}
}

// TestNothingIsAllocated holds the steady state of every backend.
func TestNothingIsAllocated(t *testing.T) {
	each(t, func(t *testing.T, listen func(*testing.T, string, string) *Conn) {
		c := listen(t, "udp", "127.0.0.1:0")
		s := dial(t, c)
		ms := messages(8)
		d := make([]byte, 1200)
		allocs := testing.AllocsPerRun(200, func() {
			if _, err := s.Write(d); err != nil {
				t.Fatal(err)
			}
			if _, err := c.ReadBatch(ms, 0); err != nil {
				t.Fatal(err)
			}
		})
		if allocs > 0 {
			t.Errorf("%.1f allocations a datagram", allocs)
		}
	})
}

// TestBlockedReasons has what keeps io_uring away, as pick sees it.
func TestBlockedReasons(t *testing.T) {
	works := uringWorks
	defer func() { uringWorks = works }()
	blocked := &uring.BlockedError{Reason: "io_uring is disabled by kernel.io_uring_disabled=2", Remedy: "sysctl -w kernel.io_uring_disabled=0", Err: unix.EPERM}
	for _, tc := range []struct {
		err      error
		fallback bool
	}{
		{blocked, true},
		{fmt.Errorf("%w: nothing came", errSelfTest), true},
		{errors.ErrUnsupported, true},
		{unix.ENOMEM, false},
		{unix.EMFILE, false},
	} {
		uringWorks = func() error { return tc.err }
		b, why, err := pick(options{})
		if tc.fallback && (err != nil || b != Mmsg || why == "") {
			t.Errorf("%v: %v, %q, %v; want recvmmsg and the reason", tc.err, b, why, err)
		}
		if !tc.fallback && !errors.Is(err, tc.err) {
			t.Errorf("%v: %v, %v; want the error itself", tc.err, b, err)
		}
		if _, _, err := pick(options{backend: Uring}); !errors.Is(err, tc.err) {
			t.Errorf("%v: uring by name gave %v", tc.err, err)
		}
	}
}

// TestNothingIsReadAfterClose has the rest of a train waiting at a deadline,
// and at the close, when the ring's memory goes away.
func TestNothingIsReadAfterClose(t *testing.T) {
	each(t, func(t *testing.T, listen func(*testing.T, string, string) *Conn) {
		c := listen(t, "udp", "127.0.0.1:0")
		s := dial(t, c)
		sendTrain(t, s, 100, make([]byte, 2000))
		ms := messages(3)
		if _, err := c.ReadBatch(ms, 0); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(-1))
		if n, err := c.ReadBatch(ms, 0); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("past deadline: %d, %v", n, err)
		}
		_ = c.SetReadDeadline(time.Time{})
		if n, err := c.ReadBatch(ms, 0); n == 0 || err != nil {
			t.Errorf("deadline cleared: %d, %v", n, err)
		}
		_ = c.Close()
		if n, err := c.ReadBatch(ms, 0); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after close: %d, %v", n, err)
		}
		if n, _, err := c.ReadFrom(make([]byte, 10)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("ReadFrom after close: %d, %v", n, err)
		}
	})
}
