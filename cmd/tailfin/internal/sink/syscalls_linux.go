package sink

import "golang.org/x/sys/unix"

func dataSync(fd int) error { return unix.Fdatasync(fd) }

// startWrite has the kernel begin to write a file's data, and does not wait. The
// first of several commits that follow then covers them all. It is no more than
// a hint: not every file system has it.
func startWrite(fd int) { _ = unix.SyncFileRange(fd, 0, 0, unix.SYNC_FILE_RANGE_WRITE) }

// readOnlyFlag is in Statfs_t.Flags of a file system that cannot be written.
const readOnlyFlag = unix.ST_RDONLY
