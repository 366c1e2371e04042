package udp

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// TestOthersRunWhileTheQueueIsLong holds that who takes datagrams on need not wait
// until all that the socket has are read, also where there is one processor.
func TestOthersRunWhileTheQueueIsLong(t *testing.T) {
	for _, backend := range built() {
		t.Run(backend.String(), func(t *testing.T) {
			needUring(t, backend)
			c, err := Listen("udp4", "127.0.0.1:0", WithBackend(backend))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			const datagrams = 150 // more than yieldAfter, fewer than fill the buffer
			fillQueue(t, c, datagrams)

			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
			var read atomic.Int64
			seen := make(chan int64, 1)
			go func() {
				seen <- read.Load()
			}()
			buf := make([]byte, 2000)
			for range datagrams {
				if _, _, err := c.ReadFrom(buf); err != nil {
					t.Fatal(err)
				}
				read.Add(1)
			}
			select {
			case n := <-seen:
				if n == datagrams {
					t.Error("another goroutine ran only once all datagrams were read")
				}
			case <-time.After(10 * time.Second):
				t.Error("another goroutine never ran")
			}
		})
	}
}

// fillQueue sends datagrams of different lengths, which the kernel does not join.
func fillQueue(t *testing.T, c *Conn, datagrams int) {
	t.Helper()
	s := dial(t, c)
	for i := range datagrams {
		if _, err := s.Write(make([]byte, 100+i)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLongYields has yields that take long, as where others compute, and holds that
// they are rare, until the queue was empty.
func TestLongYields(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var y yielder
	slow := func() {
		for end := time.Now().Add(3 * maxYield); time.Now().Before(end); {
		}
	}
	for tries := 0; y.datagrams >= 0; tries++ {
		if tries == 1000 {
			t.Fatal("no yield counted as long")
		}
		go slow() // may be preempted, and be at its end when the yield comes
		y.delivered(yieldAfter)
		y.turn()
	}
	y.delivered(yieldRest)
	if y.turn(); y.datagrams != 0 {
		t.Errorf("%d datagrams counted", y.datagrams)
	}
	y.datagrams = -1
	if y.allow(); y.datagrams != 0 {
		t.Error("an empty queue changed nothing")
	}
}
