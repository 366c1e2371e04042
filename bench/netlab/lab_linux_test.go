package netlab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/bench/proc"
)

func TestMain(m *testing.M) {
	proc.Child(Roles(), testRoles)
	goleak.VerifyTestMain(m)
}

// patience is for what takes no time on a machine that is not busy.
const patience = 30 * time.Second

// labOf is the lab that open opens, or a skip where namespaces are not for this user.
func labOf(t *testing.T, open func(context.Context) (*Lab, error)) *Lab {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	lab, err := open(ctx)
	if errors.Is(err, unix.EPERM) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	return lab
}

func openLab(t *testing.T, path string) *Lab {
	t.Helper()
	return labOf(t, func(ctx context.Context) (*Lab, error) { return Open(ctx, path) })
}

func buildLab(t *testing.T, p Profile) *Lab {
	t.Helper()
	if p.Name == "" {
		p.Name = t.Name()
	}
	return labOf(t, func(ctx context.Context) (*Lab, error) { return Build(ctx, p) })
}

// listen opens a socket of a host.
func listen(t testing.TB, h Host, addr netip.Addr) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	if err := h.Do(func() (err error) {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	// By force, for what the tests count must not be lost here: rmem_max may be small.
	option(t, conn, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20)
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

func addrOf(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

// ends are a socket of each host.
func ends(t testing.TB, lab *Lab) (receiver, sender *net.UDPConn) {
	t.Helper()
	return listen(t, lab.Receiver, lab.Receiver.Addr), listen(t, lab.Sender, lab.Sender.Addr)
}

// sendNumbered sends datagrams of size bytes that begin with their number.
func sendNumbered(t *testing.T, from *net.UDPConn, to netip.AddrPort, n, size int) {
	t.Helper()
	b := make([]byte, size)
	for i := range n {
		binary.BigEndian.PutUint32(b, uint32(i))
		if _, err := from.WriteToUDPAddrPort(b, to); err != nil {
			t.Error(err)
			return
		}
		if i%50 == 49 {
			time.Sleep(time.Millisecond) // less than what a socket's buffer holds is under way
		}
	}
}

// receiveNumbered takes datagrams until none comes for a while after the wire says that
// all have been decided on; it returns their numbers. It tells each how many have come
// so far, if it is given.
func receiveNumbered(t *testing.T, lab *Lab, at *net.UDPConn, sent int, each func(n int)) (got []int, stats Counters) {
	t.Helper()
	const calm = 50 * time.Millisecond
	b := make([]byte, 2048)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		_ = at.SetReadDeadline(time.Now().Add(calm))
		n, _, err := at.ReadFromUDPAddrPort(b)
		if err == nil && n >= 4 {
			got = append(got, int(binary.BigEndian.Uint32(b)))
			if each != nil {
				each(len(got))
			}
			continue
		}
		s, err := lab.Stats()
		if err != nil {
			t.Fatal(err)
		}
		f := s.Forward
		if f.Passed+f.Gone() == uint64(sent) && uint64(len(got)) == f.Passed+f.Duplicated {
			return got, f
		}
	}
	s, err := lab.Stats()
	t.Fatalf("%d sent, %d received, %+v, %v", sent, len(got), s, err)
	return nil, Counters{}
}

func TestEveryPathCarries(t *testing.T) {
	for _, path := range Paths {
		t.Run(path, func(t *testing.T) {
			lab := openLab(t, path)
			if lab.Path != path {
				t.Errorf("path %q", lab.Path)
			}
			if impaired := lab.Emulator != ""; impaired != (path == WAN) {
				t.Errorf("emulator %q", lab.Emulator)
			}
			for _, addrs := range [][2]netip.Addr{{lab.Receiver.Addr, lab.Sender.Addr}, {lab.Receiver.Addr6, lab.Sender.Addr6}} {
				if !addrs[0].IsValid() {
					continue
				}
				receiver, sender := listen(t, lab.Receiver, addrs[0]), listen(t, lab.Sender, addrs[1])
				// The very first one must arrive: nothing is lost to ARP or to the
				// search for duplicates. The chance of wan's is drawn from its seed.
				if _, err := sender.WriteToUDPAddrPort([]byte("ping"), addrOf(receiver)); err != nil {
					t.Fatal(err)
				}
				b := make([]byte, 10)
				n, from, err := receiver.ReadFromUDPAddrPort(b)
				if err != nil || string(b[:n]) != "ping" || from != addrOf(sender) {
					t.Fatalf("%q from %v, %v", b[:n], from, err)
				}
				if _, err := receiver.WriteToUDPAddrPort([]byte("pong"), from); err != nil {
					t.Fatal(err)
				}
				if n, _, err := sender.ReadFromUDPAddrPort(b); err != nil || string(b[:n]) != "pong" {
					t.Fatalf("%q, %v", b[:n], err)
				}
			}
		})
	}
}

// TestNamespaces looks at what is in those of a path.
func TestNamespaces(t *testing.T) {
	lab := openLab(t, Veth)
	seen := map[string]bool{own(t): true}
	for _, h := range []Host{lab.Receiver, lab.Sender} {
		var is string
		var names []string
		if err := h.Do(func() error {
			is = own(t)
			interfaces, err := net.Interfaces()
			for _, i := range interfaces {
				if i.Flags&net.FlagUp != 0 {
					names = append(names, i.Name)
				}
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if seen[is] {
			t.Errorf("namespace %s is another's", is)
		}
		seen[is] = true
		if got := strings.Join(names, " "); got != "lo "+h.Device {
			t.Errorf("%s has %s", is, got)
		}
		if there := child(t, proc.Place{CPU: proc.AnyCPU, Net: h.Net}); there != is {
			t.Errorf("a process in %s says it is in %s", is, there)
		}
	}
	if after := own(t); !seen[after] {
		t.Errorf("this thread is in %s now", after)
	}
	if err := lab.Sender.Do(func() error { return io.ErrUnexpectedEOF }); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Do returned %v", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := lab.Sender.Do(func() error { panicsNot(); return nil })
		if err == nil {
			t.Error("a function that ended its goroutine had no error")
		}
	}()
	<-done
}

// own is the namespace of this thread.
func own(t *testing.T) string {
	t.Helper()
	is, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return is
}

// trains sends trains, and counts how they arrive.
func trains(t *testing.T, lab *Lab, gro bool) (reads, datagrams int) {
	t.Helper()
	const (
		size     = 1200
		segments = 40
		n        = 50
	)
	receiver, sender := ends(t, lab)
	if gro {
		option(t, receiver, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	}
	option(t, sender, unix.IPPROTO_UDP, unix.UDP_SEGMENT, size)
	go func() {
		for range n {
			if _, err := sender.WriteToUDPAddrPort(make([]byte, size*segments), addrOf(receiver)); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Millisecond)
		}
	}()
	b := make([]byte, 1<<16)
	oob := make([]byte, 64)
	for datagrams < n*segments {
		got, control, _, _, err := receiver.ReadMsgUDPAddrPort(b, oob)
		if err != nil {
			t.Fatalf("%d datagrams of %d: %v", datagrams, n*segments, err)
		}
		each := got
		if segment := groSize(oob[:control]); segment > 0 {
			each = segment
		}
		if each != size || got%size != 0 {
			t.Fatalf("%d bytes in datagrams of %d", got, each)
		}
		reads, datagrams = reads+1, datagrams+got/each
	}
	return reads, datagrams
}

func option(t testing.TB, c *net.UDPConn, level, name, value int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), level, name, value) }); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
}

// groSize is the UDP_GRO control message's value, or 0.
func groSize(oob []byte) int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_UDP && m.Header.Type == unix.UDP_GRO && len(m.Data) >= int(unsafe.Sizeof(int32(0))) {
			return int(int32(binary.NativeEndian.Uint32(m.Data)))
		}
	}
	return 0
}

func TestTrains(t *testing.T) {
	for _, c := range []struct {
		path    string
		gro     bool
		device  func(packets uint64) bool // of 50 trains of 40
		reads   func(n int) bool
		comment string
	}{
		{Veth, true, func(n uint64) bool { return n < 60 }, func(n int) bool { return n == 50 }, "whole"},
		{Veth, false, func(n uint64) bool { return n < 60 }, func(n int) bool { return n == 2000 }, "whole to the host, cut for the socket"},
		{VethCut, true, func(n uint64) bool { return n >= 2000 }, func(n int) bool { return n < 2000 }, "cut, and joined"},
		{VethCut, false, func(n uint64) bool { return n >= 2000 }, func(n int) bool { return n == 2000 }, "cut"},
	} {
		t.Run(fmt.Sprintf("%s/gro=%v", c.path, c.gro), func(t *testing.T) {
			lab := openLab(t, c.path)
			reads, datagrams := trains(t, lab, c.gro)
			stats, err := lab.Stats()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("50 trains of 40: %d packets crossed, %d reads had %d datagrams", stats.Forward.Passed, reads, datagrams)
			if !c.device(stats.Forward.Passed) || !c.reads(reads) || stats.Forward.Dropped != 0 {
				t.Errorf("not %s: %+v", c.comment, stats.Forward)
			}
		})
	}
	t.Run(Wire, func(t *testing.T) {
		lab := buildLab(t, Profile{Emulator: Wire})
		reads, _ := trains(t, lab, true)
		joins := lab.link.(*wireLink).wire.(*wire).join // Linux 6.2
		if s, err := lab.Stats(); (reads < 2000) != joins || err != nil || s.Forward.Passed != 2000 {
			t.Errorf("%d reads, which are joined: %v, %+v, %v", reads, joins, s, err)
		}
	})
}
