package udp

import (
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// enableGRO has the kernel join datagrams of one flow to trains (UDP_GRO,
// udp(7), Linux 5.0).
func enableGRO(socket *net.UDPConn) error {
	return setInt(socket, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
}

// forceReadBuffer sets the receive buffer beyond net.core.rmem_max, with
// CAP_NET_ADMIN.
func forceReadBuffer(socket *net.UDPConn, bytes int) error {
	return setInt(socket, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bytes)
}

func setInt(socket *net.UDPConn, level, opt, value int) error {
	var err error
	if cerr := control(socket, func(fd int) { err = unix.SetsockoptInt(fd, level, opt, value) }); cerr != nil {
		return cerr
	}
	return os.NewSyscallError("setsockopt", err)
}

// meminfoDrops is SK_MEMINFO_DROPS of include/uapi/linux/sock_diag.h.
const meminfoDrops = 8

// kernelDrops asks the socket how many datagrams it dropped for a full receive
// buffer (SO_MEMINFO, Linux 4.12), 0 if it cannot say.
func kernelDrops(socket *net.UDPConn) uint64 {
	var info [meminfoDrops + 1]uint32
	size := uint32(unsafe.Sizeof(info))
	var errno unix.Errno
	err := control(socket, func(fd int) {
		_, _, errno = unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	})
	if err != nil || errno != 0 {
		return 0
	}
	return uint64(info[meminfoDrops])
}
