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
// takes no offloads: the kernel cuts trains, and sums each datagram up.
func newTUN(name string, mtu int) (*os.File, error) {
	const path = "/dev/net/tun"
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil, fmt.Errorf("%s (modprobe tun; in a container, --device %s): %w", path, path, err)
	} else if err != nil {
		return nil, fmt.Errorf("%s: %w", path, needs(err))
	}
	file := os.NewFile(uintptr(fd), path)
	if err := attachTUN(fd, name, mtu); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

func attachTUN(fd int, name string, mtu int) error {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return withKernel(os.NewSyscallError("TUNSETIFF", err), "add a TUN device", "CONFIG_TUN")
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetMTU(link, mtu); err != nil {
		return fmt.Errorf("MTU %d: %w", mtu, err)
	}
	if err := netlink.LinkSetTxQLen(link, tunRing); err != nil {
		return fmt.Errorf("ring of %d: %w", tunRing, err)
	}
	return nil
}
