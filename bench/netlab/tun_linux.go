package netlab

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tunRing is how many packets a TUN device holds until they are read. It is enough for
// what the wire's thread misses while it waits for a processor.
const tunRing = 1 << 14

// newTUN makes a TUN device in the thread's namespace. It is gone when the file is. It
// takes packets whose checksum is not done, and gives such; and trains of UDP, as whole
// says, if the kernel has that for TUN devices (Linux 6.2). Otherwise it cuts them before.
func newTUN(name string, mtu int) (file *os.File, whole bool, err error) {
	const path = "/dev/net/tun"
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil, false, fmt.Errorf("%s (modprobe tun; in a container, --device %s): %w", path, path, err)
	} else if err != nil {
		return nil, false, fmt.Errorf("%s: %w", path, needs(err))
	}
	file = os.NewFile(uintptr(fd), path)
	if whole, err = attachTUN(fd, name, mtu); err != nil {
		_ = file.Close()
		return nil, false, err
	}
	return file, whole, nil
}

// What a TUN device can be asked to take (linux/if_tun.h).
const (
	tunSum  = 0x01
	tunUDP4 = 0x20
	tunUDP6 = 0x40
)

func attachTUN(fd int, name string, mtu int) (whole bool, err error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return false, err
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return false, withKernel(os.NewSyscallError("TUNSETIFF", err), "add a TUN device", "CONFIG_TUN")
	}
	whole = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tunSum|tunUDP4|tunUDP6) == nil
	if !whole {
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tunSum); err != nil {
			return false, os.NewSyscallError("TUNSETOFFLOAD", err)
		}
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return false, err
	}
	if err := netlink.LinkSetMTU(link, mtu); err != nil {
		return false, fmt.Errorf("MTU %d: %w", mtu, err)
	}
	if err := netlink.LinkSetTxQLen(link, tunRing); err != nil {
		return false, fmt.Errorf("ring of %d: %w", tunRing, err)
	}
	return whole, nil
}
