package sink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

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

// openAt opens a regular file of folder dir. Whoever else may write in the folder can
// have put anything there: neither is a link followed, nor does a FIFO keep it.
func openAt(dir *os.File, name string, flags int) (*os.File, error) {
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Openat(int(dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o644)
		return err
	})
	if err != nil {
		return nil, pathError("open", dir, name, err)
	}
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		_ = unix.Close(fd)
		return nil, pathError("stat", dir, name, err)
	}
	if !isRegular(&st) {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("%s/%s is no regular file: %w", dir.Name(), name, fs.ErrNotExist)
	}
	return os.NewFile(uintptr(fd), dir.Name()+"/"+name), nil
}

// isAt tells whether f is the file that has a name in folder dir now.
func isAt(dir *os.File, name string, f *os.File) (bool, error) {
	var there, open unix.Stat_t
	err := statAt(dir, name, &there)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = retry(func() error { return unix.Fstat(int(f.Fd()), &open) })
	}
	if err != nil {
		return false, pathError("stat", dir, name, err)
	}
	return there.Dev == open.Dev && there.Ino == open.Ino, nil
}

func statAt(dir *os.File, name string, st *unix.Stat_t) error {
	return retry(func() error { return unix.Fstatat(int(dir.Fd()), name, st, unix.AT_SYMLINK_NOFOLLOW) })
}

func isRegular(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFREG }

// age is how long ago a file was written.
func age(st *unix.Stat_t) time.Duration { return time.Since(time.Unix(st.Mtim.Unix())) }

// eachFile gives visit what is in folder dir: links themselves, not what they lead to.
// The folder is the one that was opened, whatever has its path now.
func eachFile(dir *os.File, visit func(name string, st *unix.Stat_t)) error {
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Openat(int(dir.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) // with a place of its own in the list
		return err
	})
	if err != nil {
		return pathError("open", dir, "", err)
	}
	list := os.NewFile(uintptr(fd), dir.Name())
	defer list.Close()
	names, err := list.Readdirnames(-1)
	for _, name := range names {
		var st unix.Stat_t
		if statAt(dir, name, &st) == nil { // else it is gone
			visit(name, &st)
		}
	}
	return err
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
