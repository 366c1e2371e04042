package netlab

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Do runs f in the host's network namespace, on a thread of its own: a socket that f
// opens is of that namespace, and stays so wherever it is used. Goroutines that f
// starts are not in the namespace.
func (h Host) Do(f func() error) error {
	if h.Net == nil {
		return f()
	}
	return onThread(func() error {
		if err := unix.Setns(int(h.Net.Fd()), unix.CLONE_NEWNET); err != nil {
			return needs(os.NewSyscallError("setns", err))
		}
		return f()
	})
}

// onThread runs f on a thread whose network namespace f may change. A thread that can
// not be put back ends with f.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errors.New("the function has ended its goroutine")
		defer func() { done <- err }()
		runtime.LockOSThread()
		own, e := netns.Get()
		if err = e; err != nil {
			runtime.UnlockOSThread()
			return
		}
		defer func() { _ = own.Close() }()
		err = errors.New("the function has ended its goroutine")
		err = f()
		if netns.Set(own) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return <-done
}

// newNamespace makes a network namespace that has no name: it ends when the last file,
// thread and socket of it is gone, however this process ends.
func newNamespace() (*os.File, error) {
	var file *os.File
	err := onThread(func() error {
		h, err := netns.New()
		if err != nil {
			return needs(os.NewSyscallError("unshare", err))
		}
		file = os.NewFile(uintptr(h), "network namespace")
		return nil
	})
	return file, err
}

// needs adds to an error of the kernel what would help.
func needs(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("network namespaces and devices need root, or CAP_SYS_ADMIN and CAP_NET_ADMIN: %w", err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("network namespaces need a kernel with CONFIG_NET_NS: %w", err)
	}
	return err
}
