//go:build linux && !nouring && (386 || amd64 || arm || arm64 || loong64 || mips64le || mipsle || ppc64le || riscv64)

package uring

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"unsafe"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is a Receiver, the socket it reads, and one that sends to that.
func pair(t testing.TB, conf Config) (*Receiver, int, *net.UDPConn) {
	t.Helper()
	if err := Blocker(); err != nil {
		var blocked *BlockedError
		if errors.As(err, &blocked) {
			t.Skip(blocked.Reason)
		}
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReceiver(conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	sender, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*unix.SockaddrInet4).Port})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sender.Close() })
	return r, fd, sender
}

// receive takes n datagrams, which must be in the socket already, and recycles
// each after f has seen it.
func receive(t *testing.T, r *Receiver, fd, n int, f func(i int, d Datagram)) {
	t.Helper()
	for got := 0; got < n; {
		d, ok := r.Next()
		if ok {
			f(got, d)
			r.Recycle(d)
			got++
			continue
		}
		if got > 0 && r.Drained() {
			t.Fatalf("the queue ended after %d of %d datagrams: %+v", got, n, r.Stats())
		}
		if err := r.Receive(fd); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReceive(t *testing.T) {
	r, fd, s := pair(t, Config{})
	const total = 300
	for batch := 0; batch < total; batch += 30 {
		for i := range 30 {
			if _, err := s.Write(bytes.Repeat([]byte{byte(batch + i)}, i)); err != nil { // the first is empty
				t.Fatal(err)
			}
		}
		receive(t, r, fd, 30, func(i int, d Datagram) {
			if want := bytes.Repeat([]byte{byte(batch + i)}, i); !bytes.Equal(d.Payload, want) {
				t.Errorf("datagram %d has %d bytes, want %d", batch+i, len(d.Payload), len(want))
			}
			port := binary.BigEndian.Uint16(d.Name[2:])
			if int(port) != s.LocalAddr().(*net.UDPAddr).Port {
				t.Errorf("from port %d, sent from %v", port, s.LocalAddr())
			}
		})
	}
}

// TestDrained wants the end of the queue told by the call that came to it, for
// every number of datagrams and of buffers.
func TestDrained(t *testing.T) {
	for _, buffers := range []int{1, 2, 16, 32} {
		r, fd, s := pair(t, Config{Buffers: buffers, Payload: 100})
		for waiting := range 2 * MaxBuffers {
			for range waiting {
				_, _ = s.Write([]byte("x"))
			}
			left := waiting
			for {
				if err := r.Receive(fd); err != nil {
					t.Fatal(err)
				}
				came := 0
				for d, ok := r.Next(); ok; d, ok = r.Next() {
					r.Recycle(d)
					came++
				}
				if came > min(left, buffers) {
					t.Fatalf("%d datagrams came of %d, with %d buffers", came, left, buffers)
				}
				left -= came
				if r.Drained() {
					break
				}
				if came < buffers {
					t.Fatalf("only %d datagrams came of %d with %d buffers, and the queue was not drained", came, left+came, buffers)
				}
			}
			if left != 0 {
				t.Fatalf("drained with %d of %d datagrams in the socket", left, waiting)
			}
		}
		if st := r.Stats(); st.Enters > 2*MaxBuffers*(2*MaxBuffers+1) || st.Failed != 0 || st.Overflows != 0 {
			t.Errorf("%d buffers: %+v", buffers, st)
		}
	}
}

// TestAnyThread receives on a thread of its own each time, which ends.
func TestAnyThread(t *testing.T) {
	r, fd, s := pair(t, Config{Buffers: 4})
	for i := range 50 {
		_, _ = s.Write([]byte{byte(i)})
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			if err := r.Receive(fd); err != nil {
				t.Error(err)
			}
		}()
		<-done
		d, ok := r.Next()
		if !ok || d.Payload[0] != byte(i) {
			t.Fatalf("datagram %d: %v, %v", i, d.Payload, ok)
		}
		r.Recycle(d)
		if _, ok := r.Next(); ok || !r.Drained() {
			t.Fatalf("datagram %d: more came, or the queue was not drained", i)
		}
	}
}

// TestNothingIsLeftUnderWay closes the socket after a receive, with the ring
// still open: its port must be free at once.
func TestNothingIsLeftUnderWay(t *testing.T) {
	r, fd, s := pair(t, Config{})
	for _, waiting := range []int{0, 1, 16, 17, 40} {
		sock, err := unix.Dup(fd)
		if err != nil {
			t.Fatal(err)
		}
		for range waiting {
			_, _ = s.Write([]byte("x"))
		}
		if err := r.Receive(sock); err != nil {
			t.Fatal(err)
		}
		for d, ok := r.Next(); ok; d, ok = r.Next() {
			r.Recycle(d)
		}
		_ = unix.Close(sock)
	}
	// The last one, whose close frees the port.
	addr := s.RemoteAddr().(*net.UDPAddr)
	null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Dup3(null, fd, unix.O_CLOEXEC); err != nil { // fd itself is closed by the cleanup
		t.Fatal(err)
	}
	_ = unix.Close(null)
	again, err := net.ListenUDP("udp4", addr)
	if err != nil {
		t.Fatalf("the port is not free: %v", err)
	}
	_ = again.Close()
}

// TestFewBuffers runs out of buffers all the time, and loses nothing.
func TestFewBuffers(t *testing.T) {
	for _, buffers := range []int{1, 2, 4} {
		t.Run(fmt.Sprint(buffers), func(t *testing.T) {
			r, fd, s := pair(t, Config{Buffers: buffers, Payload: 100})
			for range 20 {
				for i := range 50 {
					_, _ = s.Write([]byte{byte(i)})
				}
				receive(t, r, fd, 50, func(i int, d Datagram) {
					if d.Payload[0] != byte(i) {
						t.Errorf("datagram %d where %d was due", d.Payload[0], i)
					}
				})
			}
			if st := r.Stats(); st.NoBuffers == 0 {
				t.Errorf("buffers never ran out, so this shows nothing: %+v", st)
			} else if st.Enters > 20*50*3 {
				t.Errorf("it spins: %+v", st)
			}
		})
	}
}

// TestSmallCompletionRing has more completions than the ring holds.
func TestSmallCompletionRing(t *testing.T) {
	r, fd, s := pair(t, Config{Buffers: 32, Payload: 100, Completions: 1})
	for range 10 {
		for i := range 200 {
			_, _ = s.Write([]byte{byte(i)})
		}
		receive(t, r, fd, 200, func(i int, d Datagram) {
			if d.Payload[0] != byte(i) {
				t.Fatalf("datagram %d where %d was due: %+v", d.Payload[0], i, r.Stats())
			}
		})
	}
	if st := r.Stats(); st.Overflows == 0 {
		t.Errorf("the ring never overflowed, so this shows nothing: %+v", st)
	}
}

func TestTooLong(t *testing.T) {
	r, fd, s := pair(t, Config{Payload: 100})
	// Buffers are rounded up, so be well beyond.
	for _, n := range []int{10, 1000, 20} {
		_, _ = s.Write(make([]byte, n))
	}
	receive(t, r, fd, 2, func(i int, d Datagram) {
		if want := []int{10, 20}[i]; len(d.Payload) != want {
			t.Errorf("%d bytes, want %d", len(d.Payload), want)
		}
	})
	if st := r.Stats(); st.Truncated != 1 {
		t.Errorf("%+v, want one truncated", st)
	}
}

// TestSocketErrors has a socket that reports ICMP errors of its peer: they are
// counted and passed over, and an error that stays ends it.
func TestSocketErrors(t *testing.T) {
	r, fd, s := pair(t, Config{})
	// A connected socket hears that nobody listens at the other end.
	peer := s.LocalAddr().(*net.UDPAddr)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: peer.Port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	_, _ = s.Write([]byte("before"))
	_ = s.Close()
	if err := unix.Send(fd, []byte("to nobody"), 0); err != nil {
		t.Fatal(err)
	}
	receive(t, r, fd, 1, func(_ int, d Datagram) {
		if string(d.Payload) != "before" {
			t.Errorf("%q", d.Payload)
		}
	})
	if st := r.Stats(); st.Failed != 1 {
		t.Errorf("%+v, want one failed", st)
	}
	var err error
	for range 2 * maxFailures {
		if err = r.Receive(-1); err != nil {
			break
		}
		_, _ = r.Next()
	}
	if !errors.Is(err, unix.EBADF) {
		t.Errorf("a socket that is none: %v", err)
	}
}

func TestClose(t *testing.T) {
	before := fds(t)
	for range 50 {
		r, fd, s := pair(t, Config{Buffers: 4})
		_, _ = s.Write([]byte("x"))
		if err := r.Receive(fd); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if _, ok := r.Next(); ok || r.Pending() != 0 {
			t.Fatal("a datagram after Close")
		}
		if err := r.Receive(fd); !errors.Is(err, os.ErrClosed) {
			t.Fatalf("Receive after Close: %v", err)
		}
		if err := r.Close(); !errors.Is(err, os.ErrClosed) {
			t.Fatalf("second Close: %v", err)
		}
		_ = s.Close()
	}
	if after := fds(t); after > before+50 { // the 50 sockets stay open until the test's end
		t.Fatalf("%d descriptors before, %d after", before, after)
	}
}

func TestReceiveAllocatesNothing(t *testing.T) {
	r, fd, s := pair(t, Config{})
	p := make([]byte, 1200)
	if n := testing.AllocsPerRun(100, func() {
		_, _ = s.Write(p)
		_ = r.Receive(fd)
		for d, ok := r.Next(); ok; d, ok = r.Next() {
			r.Recycle(d)
		}
	}); n != 0 {
		t.Errorf("%.1f allocations", n)
	}
}

// BenchmarkReceive receives from a socket that is empty, and what 16 datagrams cost.
func BenchmarkReceive(b *testing.B) {
	for _, n := range []int{0, 16} {
		b.Run(fmt.Sprintf("datagrams=%d", n), func(b *testing.B) {
			r, fd, s := pair(b, Config{Payload: 2048})
			train := make([]byte, n*1252)
			oob := make([]byte, unix.CmsgSpace(2))
			h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
			h.Level, h.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
			h.SetLen(unix.CmsgLen(2))
			binary.NativeEndian.PutUint16(oob[unix.CmsgLen(0):], 1252)
			b.ReportAllocs()
			for b.Loop() {
				if n > 0 {
					b.StopTimer()
					if _, _, err := s.WriteMsgUDP(train, oob, nil); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
				if err := r.Receive(fd); err != nil {
					b.Fatal(err)
				}
				for d, ok := r.Next(); ok; d, ok = r.Next() {
					r.Recycle(d)
				}
			}
		})
	}
}

func fds(t *testing.T) int {
	t.Helper()
	e, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(e)
}

// TestBufRingTail checks the word that bid and tail of slot 0 share.
func TestBufRingTail(t *testing.T) {
	b, err := newBufRing(4, 64)
	if err != nil {
		t.Fatal(err)
	}
	defer b.unmap()
	tail := func() uint16 { return *(*uint16)(unsafe.Pointer(&b.slots[0].resv)) }
	if tail() != 4 {
		t.Fatalf("tail %d after 4 buffers", tail())
	}
	for i := range 70_000 { // past 16 bits
		before := tail()
		id := uint16(i % 4)
		b.put(id)
		if tail() != before {
			t.Fatalf("put %d moved the tail before publish: %d to %d", i, before, tail())
		}
		b.publish()
		if tail() != before+1 {
			t.Fatalf("put %d: tail %d after %d", i, tail(), before)
		}
		slot := b.slots[uint32(before)&b.mask]
		if slot.bid != id || slot.len != 64 || slot.addr != uint64(uintptr(unsafe.Pointer(&b.bufs[int(id)*64]))) {
			t.Fatalf("put %d wrote %+v", i, slot)
		}
	}
}

func TestProbe(t *testing.T) {
	pair(t, Config{}) // skips where there is no io_uring
	before := fds(t)
	for range 20 {
		if c := Probe(); !c.Supported || !c.Setup || !c.BufferRing || !c.Multishot || c.Blocked != nil || c.Kernel == "" {
			t.Fatalf("%+v", c)
		}
	}
	if after := fds(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func TestBadConfig(t *testing.T) {
	for _, n := range []int{-1, 3, 64} {
		if _, err := NewReceiver(Config{Buffers: n}); err == nil {
			t.Errorf("%d buffers were taken", n)
		}
	}
}

func TestExplain(t *testing.T) {
	was := disabledSysctl
	defer func() { disabledSysctl = was }()
	knob := filepath.Join(t.TempDir(), "io_uring_disabled")
	set := func(v string) {
		disabledSysctl = knob
		if err := os.WriteFile(knob, []byte(v+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		sysctl string
		err    error
		want   string // in the reason; empty: not blocked for good
	}{
		{"2", unix.EPERM, "kernel.io_uring_disabled=2"},
		{"1", unix.EPERM, "kernel.io_uring_disabled=1"},
		{"0", unix.EPERM, "seccomp"},
		{"0", unix.EACCES, "security module"},
		{"0", unix.ENOSYS, "ENOSYS"},
		{"0", unix.EINVAL, "too old"},
		{"0", unix.ENOMEM, ""},
		{"0", unix.EMFILE, ""},
	} {
		set(tc.sysctl)
		err := explain(fmt.Errorf("set up: %w", tc.err))
		var blocked *BlockedError
		if errors.As(err, &blocked) != (tc.want != "") || !errors.Is(err, tc.err) {
			t.Errorf("%v with %s: %v", tc.err, tc.sysctl, err)
			continue
		}
		if tc.want != "" && (!bytes.Contains([]byte(blocked.Reason), []byte(tc.want)) || blocked.Remedy == "") {
			t.Errorf("%v with %s: reason %q, remedy %q", tc.err, tc.sysctl, blocked.Reason, blocked.Remedy)
		}
	}
}
