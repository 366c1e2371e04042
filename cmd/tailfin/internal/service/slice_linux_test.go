package service

import (
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSlice looks at every thread, those that are started later too.
func TestSlice(t *testing.T) {
	var release unix.Utsname
	if err := unix.Uname(&release); err != nil {
		t.Fatal(err)
	}
	if attr, err := unix.SchedGetAttr(0, 0); err != nil || attr.Policy != unix.SCHED_NORMAL {
		t.Skipf("this process is not scheduled as others are: %+v, %v", attr, err)
	} else if attr.Runtime == 0 {
		t.Skipf("Linux %s knows no slices", unix.ByteSliceToString(release.Release[:]))
	}
	before := threadSlices(t)
	defer func() {
		for id, d := range before {
			_ = setSliceOf(id, d)
		}
	}()
	const want = 700 * time.Microsecond
	if err := setSlice(want); err != nil {
		t.Fatal(err)
	}
	// Threads that the runtime starts now.
	var started sync.WaitGroup
	done := make(chan struct{})
	for range 8 {
		started.Add(1)
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			started.Done()
			<-done
		}()
	}
	started.Wait()
	after := threadSlices(t)
	close(done)
	if len(after) < 9 {
		t.Errorf("only %d threads were looked at", len(after))
	}
	for id, d := range after {
		if d != want {
			t.Errorf("thread %d has a slice of %v, not %v", id, d, want)
		}
	}
	if err := setSlice(0); err != nil {
		t.Error(err)
	}
	for id, d := range threadSlices(t) {
		if d != want {
			t.Errorf("0 changed the slice of thread %d to %v", id, d)
		}
	}
}

// threadSlices are those of all threads of this process.
func threadSlices(t *testing.T) map[int]time.Duration {
	t.Helper()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[int]time.Duration)
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			t.Fatal(err)
		}
		if attr, err := unix.SchedGetAttr(id, 0); err == nil {
			all[id] = time.Duration(attr.Runtime)
		}
	}
	return all
}
