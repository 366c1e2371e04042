package udp

import (
	"encoding/binary"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestControlMessages6 is TestControlMessages for IPv6: the traffic class is an
// int there, and packet info has an address of 16 bytes.
func TestControlMessages6(t *testing.T) {
	each(t, func(t *testing.T, listen func(*testing.T, string, string) *Conn) {
		c := listen(t, "udp6", "[::1]:0")
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1)
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		})
		s := dial(t, c)
		class := make([]byte, 4)
		binary.NativeEndian.PutUint32(class, 2)
		oob := append(cmsg(unix.IPPROTO_IPV6, unix.IPV6_TCLASS, class), segmentCmsg(100)...)
		if _, _, err := s.WriteMsgUDP(make([]byte, 250), oob, nil); err != nil {
			t.Fatalf("send a train: %v", err)
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		ms := messages(8)
		for got := 0; got < 3; {
			n, err := c.ReadBatch(ms, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range ms[:n] {
				got++
				list, err := unix.ParseSocketControlMessage(m.OOB[:m.NN])
				if err != nil || len(list) != 2 {
					t.Fatalf("datagram %d: %d control messages, want class and info: %v", got, len(list), err)
				}
				for _, cm := range list {
					switch {
					case cm.Header.Level == unix.IPPROTO_IPV6 && cm.Header.Type == unix.IPV6_TCLASS:
						if v := binary.NativeEndian.Uint32(cm.Data); v&3 != 2 {
							t.Errorf("datagram %d: traffic class %d", got, v)
						}
					case cm.Header.Level == unix.IPPROTO_IPV6 && cm.Header.Type == unix.IPV6_PKTINFO:
						if ip := net.IP(cm.Data[:16]); !ip.Equal(net.IPv6loopback) {
							t.Errorf("datagram %d: to %v", got, ip)
						}
					default:
						t.Errorf("datagram %d: control message %+v", got, cm.Header)
					}
				}
			}
		}
	})
}
