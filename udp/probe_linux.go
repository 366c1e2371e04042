package udp

import (
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// probeSystem reads what the kernel says of itself.
func probeSystem() Report {
	r := Report{OS: runtime.GOOS}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		r.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	r.ReadBufferMax = readInt("/proc/sys/net/core/rmem_max")
	r.WriteBufferMax = readInt("/proc/sys/net/core/wmem_max")
	return r
}

func readInt(path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return n
}

// probeSocket tries socket options on a Conn of its own.
func probeSocket(c *Conn) (gso, ecn bool, readBuffer int) {
	_ = c.SetReadBuffer(WantReadBuffer)
	_ = c.sock.control(func(fd int) {
		_, err := unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT)
		gso = err == nil
		ecn = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTOS, 1) == nil
		// The kernel doubles what it is asked for, for its own bookkeeping (socket(7)).
		if n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF); err == nil {
			readBuffer = n / 2
		}
	})
	return gso, ecn, readBuffer
}
