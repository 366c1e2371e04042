package closerace

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSocketDrops fills the smallest buffer there is.
func TestSocketDrops(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1) }); err != nil {
		t.Fatal(err)
	}
	if n := socketDrops(); n != 0 {
		t.Fatalf("%d dropped before anything was sent", n)
	}
	from, err := net.DialUDP("udp", nil, conn.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	const sent = 100
	for range sent {
		if _, err := from.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if n := socketDrops(); n == 0 || n > sent {
		t.Errorf("%d of %d dropped", n, sent)
	}
}
