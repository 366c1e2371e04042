//go:build !nouring

package udp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

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
