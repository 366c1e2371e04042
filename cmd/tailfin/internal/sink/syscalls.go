package sink

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// The hot path of a Dir calls the kernel itself: os.File asks the poller for
// each file it opens, which a regular file refuses, at five system calls a file.

// maxInterrupts is how often in a row a call is repeated that a signal has interrupted.
// One that never gets through must not hold an upload for good.
const maxInterrupts = 1000

// retry calls f until no signal interrupts it.
func retry(f func() error) error {
	for interrupts := 0; ; interrupts++ {
		if err := f(); !errors.Is(err, unix.EINTR) || interrupts == maxInterrupts {
			return err
		}
	}
}

// createAt makes a file of folder dir that did not exist.
func createAt(dir *os.File, name string) (fd int, err error) {
	err = retry(func() error {
		fd, err = unix.Openat(int(dir.Fd()), name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC, 0o644)
		return err
	})
	return fd, pathError("create", dir, name, err)
}

// writeAll writes all of p at the file's offset.
func writeAll(fd int, p []byte) error {
	for len(p) > 0 {
		var n int
		err := retry(func() (err error) {
			n, err = unix.Write(fd, p)
			return err
		})
		if err != nil {
			return os.NewSyscallError("write", err)
		}
		p = p[n:]
	}
	return nil
}

// renameAt moves a file between folders, replacing what is there.
func renameAt(from *os.File, old string, to *os.File, name string) error {
	err := retry(func() error { return unix.Renameat(int(from.Fd()), old, int(to.Fd()), name) })
	return pathError("rename", to, name, err)
}

// removeAt removes a file of folder dir.
func removeAt(dir *os.File, name string) error {
	err := retry(func() error { return unix.Unlinkat(int(dir.Fd()), name, 0) })
	return pathError("remove", dir, name, err)
}

// syncFile makes the data of a file durable, and so much of its inode as it
// takes to read it.
func syncFile(fd int) error {
	return os.NewSyscallError("fdatasync", retry(func() error { return dataSync(fd) }))
}

// syncFolder makes what was created and renamed in a folder durable (fsync(2)).
func syncFolder(dir *os.File) error {
	err := retry(func() error { return unix.Fsync(int(dir.Fd())) })
	return pathError("fsync", dir, "", err)
}

// lockFile takes the lock of a file, which ends with the process at the latest. It
// is false if another has it.
func lockFile(fd int) (bool, error) {
	err := retry(func() error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, os.NewSyscallError("flock", err)
}

func pathError(op string, dir *os.File, name string, err error) error {
	if err == nil {
		return nil
	}
	path := dir.Name()
	if name != "" {
		path += "/" + name
	}
	return &os.PathError{Op: op, Path: path, Err: err}
}
