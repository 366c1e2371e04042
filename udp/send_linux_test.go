package udp

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inNamespace runs f in a network namespace of its own, with a veth pair one
// end of which has an address. Nothing answers at the other end.
func inNamespace(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a network namespace")
	}
	done := make(chan error, 1)
	go func() {
		defer close(done)      // also when f ends the goroutine (t.FailNow)
		runtime.LockOSThread() // never unlocked: the thread ends, and the namespace with it
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		for _, line := range []string{
			"link add v0 type veth peer name v1",
			"addr add 192.0.2.1/24 dev v0",
			"link set v0 up", "link set v1 up", "link set lo up",
		} {
			if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil { // a child of this thread is in its namespace
				done <- fmt.Errorf("ip %s: %w: %s", line, err, out)
				return
			}
		}
		f()
	}()
	if err := <-done; err != nil {
		t.Skipf("no network namespace here: %v", err)
	}
}

// TestFullSendBuffer sends where nobody answers ARP, so that datagrams stay in
// the send buffer for seconds: writes block, end at their deadline and at
// Close, and go on when there is room.
func TestFullSendBuffer(t *testing.T) {
	inNamespace(t, func() {
		nobody := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 77), Port: 9}
		open := func() *Conn {
			c, err := Listen("udp4", "192.0.2.1:0")
			if err != nil {
				t.Fatal(err)
			}
			if err := c.SetWriteBuffer(1); err != nil { // the kernel makes it the least it has
				t.Fatal(err)
			}
			return c
		}
		fill := func(c *Conn) (int, error) {
			const many = 1000
			for n := range many {
				if _, err := c.WriteTo(make([]byte, 1200), nobody); err != nil {
					return n, err
				}
			}
			return many, nil
		}
		c := open()
		_ = c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		n, err := fill(c)
		var nerr net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &nerr) || !nerr.Timeout() {
			t.Fatalf("%d writes, then %v, want a timeout", n, err)
		}
		if _, err := c.WriteTo([]byte("x"), nobody); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("after the deadline: %v", err)
		}
		// The kernel gives up after three seconds, and there is room again.
		_ = c.SetWriteDeadline(time.Now().Add(30 * time.Second))
		if _, err := c.WriteTo(make([]byte, 1200), nobody); err != nil && !errors.Is(err, unix.EHOSTUNREACH) {
			t.Fatalf("with room again: %v", err)
		}
		_ = c.Close()

		c = open()
		defer func() { _ = c.Close() }()
		blocked := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := fill(c)
				blocked <- err
			}()
		}
		select {
		case err := <-blocked:
			t.Fatalf("a write did not block: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
		start := time.Now()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := <-blocked; !errors.Is(err, net.ErrClosed) {
				t.Errorf("blocked write at Close: %v", err)
			}
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("Close took %v to end blocked writes", took)
		}
	})
}

// TestWritesAsPackageNet sends to each kind of address from each kind of
// socket, and wants what package net does.
func TestWritesAsPackageNet(t *testing.T) {
	sink, err := net.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sink.Close() }()
	port := sink.LocalAddr().(*net.UDPAddr).Port
	for _, network := range []string{"udp4", "udp6", "udp"} {
		c, err := Listen(network, ":0")
		if err != nil {
			t.Skipf("no %s here: %v", network, err)
		}
		defer func() { _ = c.Close() }()
		plain, err := net.ListenUDP(network, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = plain.Close() }()
		for _, to := range []*net.UDPAddr{
			{IP: net.IPv4(127, 0, 0, 1), Port: port},
			{IP: net.IPv4(127, 0, 0, 1).To4(), Port: port},
			{IP: net.IPv6loopback, Port: port},
			{IP: net.IPv6loopback, Port: port, Zone: "lo"},
			{IP: net.IPv4zero, Port: port},
			{IP: nil, Port: port},
			{IP: net.IP{1, 2, 3}, Port: port},
			{IP: net.IPv4(127, 0, 0, 1), Port: 0},
			nil,
		} {
			n, oobn, err := c.WriteMsgUDP([]byte("datagram"), nil, to)
			wantN, wantOOBN, want := plain.WriteMsgUDP([]byte("datagram"), nil, to)
			if n != wantN || oobn != wantOOBN || (err == nil) != (want == nil) {
				t.Errorf("%s to %v: %d, %d, %v; package net has %d, %d, %v", network, to, n, oobn, err, wantN, wantOOBN, want)
			}
			var got, wanted *net.OpError
			if err != nil && (!errors.As(err, &got) || !errors.As(want, &wanted) || got.Op != wanted.Op) {
				t.Errorf("%s to %v: %v; package net has %v", network, to, err, want)
			}
		}
		if _, err := c.WriteTo([]byte("x"), &net.TCPAddr{}); err == nil {
			t.Error("a TCP address was taken")
		}
		if _, err := c.WriteTo(make([]byte, 70_000), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}); network != "udp6" && !errors.Is(err, unix.EMSGSIZE) {
			t.Errorf("70,000 bytes: %v, want EMSGSIZE", err)
		}
		if n, err := c.WriteTo(nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}); network != "udp6" && (n != 0 || err != nil) {
			t.Errorf("an empty datagram: %d, %v", n, err)
		}
	}
}

// TestWrap takes over a socket that has received already, and one that is
// connected.
func TestWrap(t *testing.T) {
	for _, backend := range built() {
		t.Run(backend.String(), func(t *testing.T) {
			needUring(t, backend)
			plain, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			peer, err := net.DialUDP("udp4", nil, plain.LocalAddr().(*net.UDPAddr))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = peer.Write([]byte("before"))
			c, err := Wrap(plain, WithBackend(backend))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			_, _ = peer.Write([]byte("after"))
			got := collect(t, c, 2)
			if string(got[0]) != "before" || string(got[1]) != "after" {
				t.Errorf("%q", got)
			}
			if _, err := plain.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the socket of package net: %v, want it closed", err)
			}

			connected, err := Wrap(peer, WithBackend(backend))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = connected.Close() }()
			if _, _, err := connected.WriteMsgUDP([]byte("connected"), nil, nil); err != nil {
				t.Error(err)
			}
			if got := collect(t, c, 1); string(got[0]) != "connected" {
				t.Errorf("%q", got)
			}
			if _, err := connected.WriteTo([]byte("x"), c.LocalAddr()); !errors.Is(err, net.ErrWriteToConnected) {
				t.Errorf("WriteTo on a connected socket: %v", err)
			}
			// It hears that nobody listens any more, and that is no error of reading.
			_ = c.Close()
			_, _, _ = connected.WriteMsgUDP([]byte("x"), nil, nil)
			_ = connected.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			if _, err := connected.ReadBatch(messages(1), 0); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("after an ICMP error: %v", err)
			}
			if st := connected.Stats(); st.Failed != 1 {
				t.Errorf("%+v, want one failed", st)
			}
		})
	}
	plain, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plain.Close() }()
	if _, err := Wrap(plain, WithBackend(Backend(99))); err == nil {
		t.Fatal("a backend that is none was taken")
	}
	_ = plain.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, _, err := plain.ReadFromUDP(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after a Wrap that failed: %v, want the socket as it was", err)
	}
}

// TestRawConn reads and writes by SyscallConn, as its contract has it.
func TestRawConn(t *testing.T) {
	c, err := Listen("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := dial(t, c)
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(20*time.Millisecond, func() { _, _ = s.Write([]byte("raw")) })
	p := make([]byte, 10)
	var n int
	if err := raw.Read(func(fd uintptr) bool {
		var err error
		n, _, err = unix.Recvfrom(int(fd), p, unix.MSG_DONTWAIT)
		return err == nil
	}); err != nil || !bytes.Equal(p[:n], []byte("raw")) {
		t.Fatalf("%q, %v", p[:n], err)
	}
	if err := raw.Write(func(uintptr) bool { return true }); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- raw.Read(func(uintptr) bool { return false }) }()
	time.Sleep(10 * time.Millisecond)
	_ = c.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a raw read at Close: %v", err)
	}
	if raw.Control(func(uintptr) {}) == nil {
		t.Error("Control after Close succeeded")
	}
}

// TestWritesAllocateNothing holds the steady state of sending.
func TestWritesAllocateNothing(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		c, err := Listen("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		to := *c.LocalAddr().(*net.UDPAddr)
		if to.IP.To4() == nil {
			to.Zone = "lo"
		}
		p, oob := make([]byte, 1200), segmentCmsg(600)
		if n := testing.AllocsPerRun(200, func() {
			if _, _, err := c.WriteMsgUDP(p, oob, &to); err != nil {
				t.Fatal(err)
			}
		}); n >= 1 { // the pool may be emptied by the collector
			t.Errorf("%s: %.1f allocations a write", addr, n)
		}
	}
}
