package udp

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
)

// TestCloseWhileReading closes a Conn that is idle, in a blocked read, and in a
// burst, 1,000 times each: it must be prompt, free the port at once, and leave
// no descriptor, thread or mapping behind.
func TestCloseWhileReading(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds = 30
	}
	each(t, func(t *testing.T, listen func(*testing.T, string, string) *Conn) {
		for _, when := range []string{"idle", "blocked", "burst"} {
			t.Run(when, func(t *testing.T) {
				first := listen(t, "udp", "127.0.0.1:0")
				addr := first.LocalAddr().String() // from now on the same port again
				_ = first.Close()
				s, err := net.Dial("udp", addr)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = s.Close() }()
				before := resources(t)
				for range rounds {
					closeOnce(t, listen(t, "udp", addr), s, when)
				}
				settled(t, before, rounds)
			})
		}
	})
}

func closeOnce(t *testing.T, c *Conn, s net.Conn, when string) {
	t.Helper()
	done := make(chan error, 1)
	started := make(chan struct{})
	switch when {
	case "idle":
		close(started)
		done <- net.ErrClosed
	default:
		go func() {
			close(started)
			ms := messages(8)
			for {
				if _, err := c.ReadBatch(ms, 0); err != nil {
					done <- err
					return
				}
			}
		}()
	}
	<-started
	if when == "burst" {
		for range 50 {
			_, _ = s.Write(make([]byte, 1200))
		}
	} else {
		runtime.Gosched()
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if !errors.Is(err, net.ErrClosed) {
			t.Fatalf("read during Close: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the read goes on after Close")
	}
	if err := c.Close(); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("second Close: %v", err)
	}
	if _, err := c.ReadBatch(messages(1), 0); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("read after Close: %v", err)
	}
	if _, err := c.WriteTo([]byte("x"), c.LocalAddr()); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("write after Close: %v", err)
	}
}

// settled wants what a process holds to be what it was, up to what the runtime
// keeps for itself: heap, and a few threads.
func settled(t *testing.T, before usage, rounds int) {
	t.Helper()
	waitFor(t, func() error {
		after := resources(t)
		if after.fds > before.fds || after.maps > before.maps+8+rounds/20 || after.threads > before.threads+8 {
			return fmt.Errorf("before %+v, after %d uses %+v", before, rounds, after)
		}
		return nil
	})
}

func TestCloseLeaksNothing(t *testing.T) {
	each(t, func(t *testing.T, listen func(*testing.T, string, string) *Conn) {
		use := func() {
			c := listen(t, "udp", "127.0.0.1:0")
			s := dial(t, c)
			var wg sync.WaitGroup
			wg.Go(func() {
				ms := messages(8)
				for {
					if _, err := c.ReadBatch(ms, 0); err != nil {
						return
					}
				}
			})
			_, _ = s.Write([]byte("x"))
			_ = c.Close()
			_ = s.Close()
			wg.Wait()
		}
		use() // what is made once for the process
		before := resources(t)
		for range 30 {
			use()
		}
		settled(t, before, 30)
	})
}

// waitFor gives the system a moment to end threads.
func waitFor(t *testing.T, check func() error) {
	t.Helper()
	var err error
	for range 100 {
		if err = check(); err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal(err)
}

// usage is what a process holds of the system.
type usage struct{ fds, threads, maps int }

func resources(t *testing.T) usage {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	count := func(dir string) int {
		e, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(e)
	}
	m, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return usage{count("/proc/self/fd"), count("/proc/self/task"), bytes.Count(m, []byte("\n"))}
}
