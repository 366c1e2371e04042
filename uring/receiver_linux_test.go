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
	"time"
	"unsafe"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is a socket with a Receiver, and one that sends to it.
func pair(t *testing.T, conf Config) (*Receiver, *net.UDPConn) {
	t.Helper()
	if err := Blocker(); err != nil {
		var blocked *BlockedError
		if errors.As(err, &blocked) {
			t.Skip(blocked.Reason)
		}
		t.Fatal(err)
	}
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	raw, err := socket.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var r *Receiver
	var rerr error
	if err := raw.Control(func(fd uintptr) { r, rerr = NewReceiver(int(fd), conf) }); err != nil {
		t.Fatal(err)
	}
	if rerr != nil {
		t.Fatal(rerr)
	}
	sender, err := net.DialUDP("udp4", nil, socket.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sender.Close() })
	return r, sender
}

// onOwner runs f on a thread that owns the ring and ends after it.
func onOwner(t *testing.T, r *Receiver, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := r.Own()
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// receive waits for n datagrams and recycles each after f has seen it.
func receive(t *testing.T, r *Receiver, n int, f func(i int, d Datagram)) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for got := 0; got < n; {
		d, ok := r.Next()
		if ok {
			f(got, d)
			r.Recycle(d)
			got++
			continue
		}
		left := time.Until(deadline)
		if left <= 0 {
			t.Errorf("%d of %d datagrams came: %+v", got, n, r.Stats())
			return
		}
		if err := r.Wait(left); err != nil {
			t.Error(err)
			return
		}
	}
}

func TestReceive(t *testing.T) {
	r, s := pair(t, Config{})
	const total = 300
	onOwner(t, r, func() {
		defer func() { _ = r.Close() }()
		for batch := 0; batch < total; batch += 30 {
			for i := range 30 {
				if _, err := s.Write(bytes.Repeat([]byte{byte(batch + i)}, i)); err != nil { // the first is empty
					t.Error(err)
				}
			}
			receive(t, r, 30, func(i int, d Datagram) {
				if want := bytes.Repeat([]byte{byte(batch + i)}, i); !bytes.Equal(d.Payload, want) {
					t.Errorf("datagram %d has %d bytes, want %d", batch+i, len(d.Payload), len(want))
				}
				port := binary.BigEndian.Uint16(d.Name[2:])
				if int(port) != s.LocalAddr().(*net.UDPAddr).Port {
					t.Errorf("from port %d, sent from %v", port, s.LocalAddr())
				}
			})
		}
	})
}

// TestFewBuffers runs out of buffers all the time, and loses nothing.
func TestFewBuffers(t *testing.T) {
	for _, buffers := range []int{1, 2, 4} {
		t.Run(fmt.Sprint(buffers), func(t *testing.T) {
			r, s := pair(t, Config{Buffers: buffers, Payload: 100})
			onOwner(t, r, func() {
				defer func() { _ = r.Close() }()
				for range 20 {
					for i := range 50 {
						_, _ = s.Write([]byte{byte(i)})
					}
					receive(t, r, 50, func(i int, d Datagram) {
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
		})
	}
}

// TestSmallCompletionRing has more completions than the ring holds.
func TestSmallCompletionRing(t *testing.T) {
	r, s := pair(t, Config{Buffers: 256, Payload: 100, Completions: 1})
	onOwner(t, r, func() {
		defer func() { _ = r.Close() }()
		if err := r.Wait(0); err != nil { // arms, so that all below arrive in one wait
			t.Error(err)
		}
		for i := range 200 {
			_, _ = s.Write([]byte{byte(i)})
		}
		receive(t, r, 200, func(i int, d Datagram) {
			if d.Payload[0] != byte(i) {
				t.Errorf("datagram %d where %d was due", d.Payload[0], i)
			}
		})
	})
}

func TestTooLong(t *testing.T) {
	r, s := pair(t, Config{Payload: 100})
	onOwner(t, r, func() {
		defer func() { _ = r.Close() }()
		// Buffers are rounded up, so be well beyond.
		for _, n := range []int{10, 1000, 20} {
			_, _ = s.Write(make([]byte, n))
		}
		receive(t, r, 2, func(i int, d Datagram) {
			if want := []int{10, 20}[i]; len(d.Payload) != want {
				t.Errorf("%d bytes, want %d", len(d.Payload), want)
			}
		})
		if st := r.Stats(); st.Truncated != 1 {
			t.Errorf("%+v, want one truncated", st)
		}
	})
}

func TestWakeAndTimeout(t *testing.T) {
	r, _ := pair(t, Config{})
	waiting, woke := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(woke)
		<-waiting
		time.Sleep(10 * time.Millisecond)
		r.Wake()
	}()
	onOwner(t, r, func() {
		defer func() { _ = r.Close() }()
		close(waiting)
		for range 2 { // the wake may come before or during the wait
			start := time.Now()
			if err := r.Wait(10 * time.Second); err != nil {
				t.Error(err)
			}
			if time.Since(start) > 5*time.Second {
				t.Error("Wake did not wake")
			}
			_, _ = r.Next()
			r.Wake()
		}
		<-woke
		start := time.Now()
		for time.Since(start) < 20*time.Millisecond {
			if err := r.Wait(time.Millisecond); err != nil {
				t.Error(err)
			}
			_, _ = r.Next()
		}
		if time.Since(start) > 5*time.Second {
			t.Error("a timeout did not end the wait")
		}
	})
}

// TestRestKeepsDatagrams rests with datagrams unread, and goes on after it.
func TestRestKeepsDatagrams(t *testing.T) {
	r, s := pair(t, Config{})
	onOwner(t, r, func() {
		defer func() { _ = r.Close() }()
		for round := range 3 {
			if err := r.Wait(0); err != nil {
				t.Error(err)
			}
			for i := range 20 {
				_, _ = s.Write([]byte{byte(i)})
			}
			if round > 0 {
				_ = r.Wait(0) // some have come before the rest
			}
			r.Rest()
			receive(t, r, 20, func(i int, d Datagram) {
				if d.Payload[0] != byte(i) {
					t.Errorf("datagram %d where %d was due", d.Payload[0], i)
				}
			})
		}
	})
}

// TestCloseFreesThePort closes by the owner, and by another thread after the
// owner's has ended and while it lives.
func TestCloseFreesThePort(t *testing.T) {
	for _, tc := range []struct {
		name  string
		close func(t *testing.T, r *Receiver)
	}{
		{"by the owner", func(t *testing.T, r *Receiver) {
			onOwner(t, r, func() {
				_ = r.Wait(0)
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			})
		}},
		{"after the owner", func(t *testing.T, r *Receiver) {
			onOwner(t, r, func() { _ = r.Wait(0) })
			if err := r.Abandon(); err != nil {
				t.Error(err)
			}
		}},
		{"after the owner, which rested", func(t *testing.T, r *Receiver) {
			onOwner(t, r, func() {
				_ = r.Wait(0)
				r.Rest()
			})
			if err := r.Abandon(); err != nil {
				t.Error(err)
			}
		}},
		{"beside the owner", func(t *testing.T, r *Receiver) {
			waited, over := make(chan struct{}), make(chan struct{})
			done := make(chan struct{})
			go func() {
				defer close(done)
				runtime.LockOSThread()
				if err := r.Own(); err != nil {
					t.Error(err)
				}
				_ = r.Wait(0)
				close(waited)
				<-over
			}()
			<-waited
			if err := r.Abandon(); err != nil {
				t.Error(err)
			}
			close(over)
			<-done
		}},
		{"never owned", func(t *testing.T, r *Receiver) {
			if err := r.Abandon(); err != nil {
				t.Error(err)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for range 20 {
				r, s := pair(t, Config{Buffers: 4})
				addr := s.RemoteAddr().(*net.UDPAddr)
				before := fds(t)
				tc.close(t, r)
				if after := fds(t); after >= before {
					t.Fatalf("%d descriptors before the close, %d after", before, after)
				}
				if err := r.Wait(0); !errors.Is(err, os.ErrClosed) {
					t.Fatalf("Wait after the close: %v", err)
				}
				if err := r.Close(); !errors.Is(err, os.ErrClosed) {
					t.Fatalf("second close: %v", err)
				}
				// The socket itself is still open; a receive of the ring's would
				// keep its port beyond its own close.
				closeSocket(t, addr)
				again, err := net.ListenUDP("udp4", addr)
				if err != nil {
					t.Fatalf("the port is not free: %v", err)
				}
				_ = again.Close()
			}
		})
	}
}

// closeSocket closes the one socket of this process that is bound to addr.
func closeSocket(t *testing.T, addr *net.UDPAddr) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		var fd int
		if _, err := fmt.Sscan(e.Name(), &fd); err != nil {
			continue
		}
		name, err := unix.Getsockname(fd)
		if sa, ok := name.(*unix.SockaddrInet4); err == nil && ok && sa.Port == addr.Port {
			_ = unix.Shutdown(fd, unix.SHUT_RDWR)
			dup, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			// Replace it, so that its Go owner closes something harmless.
			if err := unix.Dup3(dup, fd, unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			_ = unix.Close(dup)
			return
		}
	}
	t.Fatal("socket not found")
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
	if tail() != 4 || b.free != 4 {
		t.Fatalf("tail %d, free %d after 4 buffers", tail(), b.free)
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

func TestBadConfig(t *testing.T) {
	for _, n := range []int{-1, 3, 1 << 16} {
		if _, err := NewReceiver(0, Config{Buffers: n}); err == nil {
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
