package takeover

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// supported tells whether instances can share an address.
const supported = true

// sendFlags are those of a message that must not block.
const sendFlags = unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL

// A peer is the process at the other end of a control socket.
type peer struct {
	pid int
	uid int
}

// peerOf asks the kernel (SO_PEERCRED, unix(7)). Of an instance that was connected
// to it is the process that has called listen(2) last.
func peerOf(raw syscall.RawConn) (peer, error) {
	var cred *unix.Ucred
	var err error
	if cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); cerr != nil {
		return peer{}, cerr
	}
	if err != nil {
		return peer{}, os.NewSyscallError("getsockopt SO_PEERCRED", err)
	}
	return peer{pid: int(cred.Pid), uid: int(cred.Uid)}, nil
}

// growBuffer makes room for what is sent, beyond net.core.wmem_max with
// CAP_NET_ADMIN.
func growBuffer(raw syscall.RawConn, bytes int) {
	_ = raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, bytes) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, bytes)
		}
	})
}

// listenAgain makes this process the one that SO_PEERCRED names.
func listenAgain(raw syscall.RawConn) error {
	var err error
	cerr := raw.Control(func(fd uintptr) { err = unix.Listen(int(fd), backlog) })
	return errors.Join(cerr, os.NewSyscallError("listen", err))
}

// backlog is how many new instances may wait for an answer.
const backlog = 16
