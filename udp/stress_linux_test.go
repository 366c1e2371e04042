package udp

import (
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// traffic sends numbered trains until stop is closed, and wants them read in
// order and whole. Nothing may be lost but what the kernel says it dropped.
func traffic(t *testing.T, c *Conn, stop <-chan struct{}) {
	t.Helper()
	if err := c.SetReadBuffer(8 << 20); err != nil {
		t.Fatal(err)
	}
	s := dial(t, c)
	const segment, perTrain = 600, 16
	var sent uint32
	var wg sync.WaitGroup
	finished := make(chan struct{})
	wg.Go(func() {
		defer close(finished)
		train := make([]byte, segment*perTrain)
		oob := segmentCmsg(segment)
		for {
			for i := range perTrain {
				d := train[i*segment : (i+1)*segment]
				binary.NativeEndian.PutUint32(d, sent)
				d[4], d[segment-1] = byte(sent*7), byte(sent*7)
				sent++
			}
			if _, _, err := s.WriteMsgUDP(train, oob, nil); err != nil {
				t.Error(err)
				return
			}
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Microsecond):
			}
		}
	})
	ms := messages(8)
	var next, got uint32
	for patience := time.Now().Add(time.Minute); ; {
		_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		n, err := c.ReadBatch(ms, 0)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			select {
			case <-finished:
			default:
				continue
			}
			// A loaded machine may keep a reader off for longer than its deadline.
			if got < sent && c.Stats().KernelDrops == 0 && time.Now().Before(patience) {
				continue
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range ms[:n] {
			d := m.Buffers[0][:m.N]
			seq := binary.NativeEndian.Uint32(d)
			if m.N != segment || seq < next || d[4] != byte(seq*7) || d[segment-1] != byte(seq*7) {
				t.Fatalf("datagram %d of %d bytes where %d was due", seq, m.N, next)
			}
			next = seq + 1
			got++
		}
	}
	wg.Wait()
	st := c.Stats()
	if missing := sent - got; missing != 0 && st.KernelDrops == 0 || got == 0 {
		t.Errorf("sent %d, received %d: %+v", sent, got, st)
	}
}

// during runs traffic while disturb runs.
func during(t *testing.T, d time.Duration, disturb func(stop <-chan struct{})) {
	each(t, func(t *testing.T, listen func(*testing.T, string, string) *Conn) {
		stop := make(chan struct{})
		time.AfterFunc(d, func() { close(stop) })
		var wg sync.WaitGroup
		wg.Go(func() { disturb(stop) })
		traffic(t, listen(t, "udp", "127.0.0.1:0"), stop)
		wg.Wait()
	})
}

// TestTrafficUnderGC collects all the time, so that memory which the kernel
// knows and the collector does not would be used for something else.
func TestTrafficUnderGC(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	during(t, 300*time.Millisecond, func(stop <-chan struct{}) {
		var garbage [64][]byte
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				garbage[i%len(garbage)] = make([]byte, 64<<10)
				runtime.GC()
			}
		}
	})
}

// TestTrafficUnderSignals interrupts all threads all the time.
func TestTrafficUnderSignals(t *testing.T) {
	during(t, 300*time.Millisecond, func(stop <-chan struct{}) {
		for {
			select {
			case <-stop:
				return
			default:
			}
			threads, err := os.ReadDir("/proc/self/task")
			if err != nil {
				t.Error(err)
				return
			}
			for _, e := range threads {
				// SIGURG is the one with which Go's runtime preempts.
				if tid, err := strconv.Atoi(e.Name()); err == nil {
					_ = unix.Tgkill(unix.Getpid(), tid, unix.SIGURG)
				}
			}
		}
	})
}

// TestDeadlinesChangeUnderTraffic has others move the deadline all the time.
func TestDeadlinesChangeUnderTraffic(t *testing.T) {
	each(t, func(t *testing.T, listen func(*testing.T, string, string) *Conn) {
		c := listen(t, "udp", "127.0.0.1:0")
		s := dial(t, c)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					_ = c.SetReadDeadline(time.Time{})
					return
				default:
					_ = c.SetReadDeadline([]time.Time{{}, time.Now().Add(-1), time.Now().Add(50 * time.Microsecond), time.Now().Add(time.Hour)}[i%4])
				}
			}
		})
		ms := messages(8)
		for i := range 2000 {
			if _, err := s.Write([]byte{byte(i), byte(i >> 8)}); err != nil {
				t.Fatal(err)
			}
			for got := 0; got == 0; {
				n, err := c.ReadBatch(ms, 0)
				if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatal(err)
				}
				if got = n; n > 0 {
					if seq := int(ms[0].Buffers[0][0]) | int(ms[0].Buffers[0][1])<<8; n != 1 || seq != i {
						t.Fatalf("%d datagrams, the first is %d, want %d", n, seq, i)
					}
				}
			}
		}
		close(stop)
		wg.Wait()
	})
}
