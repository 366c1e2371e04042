//go:build !linux

package sink

import "golang.org/x/sys/unix"

func dataSync(fd int) error { return unix.Fsync(fd) }

func startWrite(int) {}

const readOnlyFlag = unix.MNT_RDONLY
