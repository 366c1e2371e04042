package udp

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// enableGRO has the kernel join datagrams of one flow to trains (UDP_GRO,
// udp(7), Linux 5.0).
func (s *socket) enableGRO() error {
	return s.setInt(unix.IPPROTO_UDP, unix.UDP_GRO, 1)
}

// forceReadBuffer sets the receive buffer beyond net.core.rmem_max, with
// CAP_NET_ADMIN.
func (s *socket) forceReadBuffer(bytes int) error {
	return s.setInt(unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bytes)
}

// readBuffer is the size of the receive buffer, in bytes as the kernel charges
// them, 0 if it cannot be told.
func (s *socket) readBuffer() int {
	var n int
	_ = s.control(func(fd int) { n, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF) })
	return n
}

// meminfoDrops is SK_MEMINFO_DROPS of include/uapi/linux/sock_diag.h.
const meminfoDrops = 8

// kernelDrops asks the socket how many datagrams it dropped for a full receive
// buffer (SO_MEMINFO, Linux 4.12), 0 if it cannot say.
func (s *socket) kernelDrops() uint64 {
	var info [meminfoDrops + 1]uint32
	size := uint32(unsafe.Sizeof(info))
	var errno unix.Errno
	err := s.control(func(fd int) {
		_, _, errno = unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	})
	if err != nil || errno != 0 {
		return 0
	}
	return uint64(info[meminfoDrops])
}
