package takeover

import (
	"os"
	"runtime"
	"testing"
)

// descriptors are how many files the process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(list)
}

// TestNothingIsLeft hands over many times in one process, and counts what stays.
func TestNothingIsLeft(t *testing.T) {
	modes(t, func(t *testing.T, s settings) {
		if s.Shards == 1 {
			return // as with more
		}
		last := begin(t, s)
		addr := last.l.Addr().String()
		tr := newClient(t)
		next := func() {
			following := last.succeed(t, s)
			last.superseded(t)
			if err := last.end(); err != nil {
				t.Error(err)
			}
			ask(t, tr, addr, following)
			eventually(t, "the older one is gone", func() bool { return following.l.older.Load() == nil })
			last = following
		}
		next() // what is made once, as by the self-test of io_uring
		files, routines := descriptors(t), runtime.NumGoroutine()
		handovers := 3
		if testing.Short() {
			handovers = 1
		}
		for range handovers {
			next()
		}
		// As many as one instance has: each that ended has given back all.
		eventually(t, "descriptors and goroutines are as before", func() bool {
			return descriptors(t) <= files && runtime.NumGoroutine() <= routines+1
		})
		t.Logf("%d descriptors and %d goroutines before %d hand-overs, %d and %d after", files, routines, handovers, descriptors(t), runtime.NumGoroutine())
	})
}
