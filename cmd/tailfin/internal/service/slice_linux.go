package service

import (
	"errors"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// setSlice asks the scheduler for slices of processor time of this length for every
// thread of the process, and so for those that they start. Where it is 0 nothing is
// changed.
//
// Linux lets a thread run to the end of its slice, of some 3 ms, before one that wakes up
// has its turn, unless that one has a shorter slice (EEVDF, since 6.12; an older kernel
// ignores the length). A receiver that sleeps between datagrams would wait for that
// each time on a processor where others compute.
func setSlice(d time.Duration) error {
	if d == 0 {
		return nil
	}
	set := make(map[int]bool)
	// A thread that is not done yet may start another in the meantime.
	for again := true; again; {
		again = false
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, t := range threads {
			id, err := strconv.Atoi(t.Name())
			if err != nil || set[id] {
				continue
			}
			if err := setSliceOf(id, d); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
			set[id], again = true, true
		}
	}
	return nil
}

// setSliceOf does so for one thread, unless somebody has given it another policy.
func setSliceOf(thread int, d time.Duration) error {
	attr, err := unix.SchedGetAttr(thread, 0)
	if err != nil {
		return os.NewSyscallError("sched_getattr", err)
	}
	if attr.Policy != unix.SCHED_NORMAL {
		return nil
	}
	attr.Runtime = uint64(d)
	return os.NewSyscallError("sched_setattr", unix.SchedSetAttr(thread, attr, 0))
}
