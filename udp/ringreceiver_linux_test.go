//go:build !nouring

package udp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/uring"
)

// TestManyBuffersRecycled passes the 16 bits of the buffer ring's tail.
func TestManyBuffersRecycled(t *testing.T) {
	if err := uringWorks(); err != nil {
		t.Skipf("io_uring does not work here: %v", err)
	}
	c, err := Listen("udp", "127.0.0.1:0", WithBackend(Uring), WithGRO(false), WithBuffers(4))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	s := dial(t, c)
	const total = 70_000
	ms := messages(8)
	p := make([]byte, 4)
	for sent := 0; sent < total; {
		for range 40 {
			binary.NativeEndian.PutUint32(p, uint32(sent))
			if _, err := s.Write(p); err != nil {
				t.Fatal(err)
			}
			sent++
		}
		for got := sent - 40; got < sent; {
			n, err := c.ReadBatch(ms, 0)
			if err != nil {
				t.Fatal(err)
			}
			for i := range n {
				if v := binary.NativeEndian.Uint32(ms[i].Buffers[0]); v != uint32(got) {
					t.Fatalf("datagram %d after %d", v, got-1)
				}
				got++
			}
		}
	}
}

// TestUringDisabledHere switches io_uring off for real, where we may.
func TestUringDisabledHere(t *testing.T) {
	const knob = "/proc/sys/kernel/io_uring_disabled"
	was, err := os.ReadFile(filepath.Clean(knob))
	if err != nil {
		t.Skipf("no such knob: %v", err)
	}
	if err := os.WriteFile(knob, []byte("2"), 0o644); err != nil {
		t.Skipf("needs root to set kernel.io_uring_disabled: %v", err)
	}
	defer func() {
		if err := os.WriteFile(knob, was, 0o644); err != nil {
			t.Error(err)
		}
	}()
	err = selfTest()
	var blocked *uring.BlockedError
	if !errors.As(err, &blocked) || !errors.Is(err, unix.EPERM) {
		t.Fatalf("with io_uring_disabled=2: %v", err)
	}
	if want := "kernel.io_uring_disabled=2"; !bytes.Contains([]byte(blocked.Reason), []byte(want)) || blocked.Remedy == "" {
		t.Fatalf("reason %q, remedy %q", blocked.Reason, blocked.Remedy)
	}
}

// TestRingFails takes the ring's descriptor away in the middle of traffic. Auto
// goes on by system calls, loses nothing and says so; Uring by name reports it.
func TestRingFails(t *testing.T) {
	needUring(t, Uring)
	rings := func() map[string]bool {
		list := map[string]bool{}
		entries, _ := filepath.Glob("/proc/self/fd/*")
		for _, e := range entries {
			if to, err := os.Readlink(e); err == nil && strings.Contains(to, "io_uring") {
				list[e] = true
			}
		}
		return list
	}
	for _, backend := range []Backend{Auto, Uring} {
		t.Run(backend.String(), func(t *testing.T) {
			before := rings()
			c, err := Listen("udp", "127.0.0.1:0", WithBackend(backend), WithGRO(false))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			fd := -1
			for e := range rings() {
				if !before[e] {
					fd, _ = strconv.Atoi(filepath.Base(e))
				}
			}
			if fd < 0 {
				t.Fatal("the Conn has no ring")
			}
			if err := c.SetReadBuffer(8 << 20); err != nil {
				t.Fatal(err)
			}
			s := dial(t, c)
			const total = 1000 // at once, so that the socket is busy
			for i := range total {
				_, _ = s.Write([]byte{byte(i), byte(i >> 8)})
			}
			ms := messages(8)
			seen := 0
			read := func() error {
				_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
				n, err := c.ReadBatch(ms, 0)
				for _, m := range ms[:n] {
					if seq := int(m.Buffers[0][0]) | int(m.Buffers[0][1])<<8; seq != seen {
						t.Fatalf("datagram %d where %d was due", seq, seen)
					}
					seen++
				}
				return err
			}
			if err := read(); err != nil {
				t.Fatal(err)
			}
			null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := unix.Dup3(null, fd, unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			_ = unix.Close(null)
			if backend == Uring {
				for err == nil && seen < total {
					err = read()
				}
				if !errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, net.ErrClosed) {
					t.Fatalf("uring by name: %v", err)
				}
				return
			}
			for seen < total {
				if err := read(); err != nil {
					t.Fatalf("after %d of %d datagrams: %v: %+v", seen, total, err, c.Stats())
				}
			}
			if c.Backend() != Mmsg || !strings.HasPrefix(c.Reason(), "io_uring failed: ") {
				t.Errorf("afterwards: %s: %s", c.Backend(), c.Reason())
			}
			if st := c.Stats(); st.Datagrams != total || st.KernelDrops != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}
