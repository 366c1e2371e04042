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

	"go.uber.org/goleak"
	"golang.org/x/net/ipv4"

	"github.com/tailfin-quic/tailfin/uring"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// built lists the backends that this build has.
func built() []Backend {
	list := []Backend{Msg}
	if haveMmsg {
		list = append(list, Mmsg)
	}
	if uring.Supported {
		list = append(list, Uring, Auto)
	}
	return list
}

// each runs f with every backend that works here, with and without GRO. It is
// the conformance suite: whatever a test wants it wants of all of them.
func each(t *testing.T, f func(t *testing.T, listen func(t *testing.T, network, addr string) *Conn)) {
	for _, backend := range built() {
		for _, gro := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/gro=%v", backend, gro), func(t *testing.T) {
				needUring(t, backend)
				f(t, func(t *testing.T, network, addr string) *Conn {
					t.Helper()
					c, err := Listen(network, addr, WithBackend(backend), WithGRO(gro))
					if err != nil {
						t.Fatal(err)
					}
					if backend != Auto && c.Backend() != backend {
						t.Fatalf("backend %s, asked for %s", c.Backend(), backend)
					}
					t.Cleanup(func() { _ = c.Close() })
					if err := c.SetReadBuffer(1 << 20); err != nil {
						t.Fatal(err)
					}
					return c
				})
			})
		}
	}
}

// needUring skips a test of io_uring where there is none.
func needUring(t *testing.T, backend Backend) {
	t.Helper()
	if backend != Uring && backend != Auto {
		return
	}
	if err := uringWorks(); err != nil {
		t.Skipf("io_uring does not work here: %v", err)
	}
}

// dial is a plain socket that sends to c.
func dial(t *testing.T, c *Conn) *net.UDPConn {
	t.Helper()
	to, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok {
		t.Fatalf("local address %v", c.LocalAddr())
	}
	s, err := net.DialUDP("udp", nil, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// messages is what quic-go passes to ReadBatch.
func messages(n int) []ipv4.Message {
	ms := make([]ipv4.Message, n)
	for i := range ms {
		ms[i].Buffers = [][]byte{make([]byte, 1452)}
		ms[i].OOB = make([]byte, 128)
	}
	return ms
}

// collect reads n datagrams.
func collect(t *testing.T, c *Conn, n int) [][]byte {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var got [][]byte
	ms := messages(8)
	for len(got) < n {
		k, err := c.ReadBatch(ms, 0)
		if err != nil {
			t.Fatalf("after %d of %d datagrams: %v", len(got), n, err)
		}
		if k == 0 {
			t.Fatal("ReadBatch returned 0 and no error")
		}
		for i := range k {
			got = append(got, bytes.Clone(ms[i].Buffers[0][:ms[i].N]))
		}
	}
	return got
}

func TestOrderAndEmptyDatagrams(t *testing.T) {
	each(t, func(t *testing.T, listen func(*testing.T, string, string) *Conn) {
		c := listen(t, "udp", "127.0.0.1:0")
		s := dial(t, c)
		var want [][]byte
		for i := range 100 {
			d := bytes.Repeat([]byte{byte(i)}, i*13%1200)
			if i%3 == 0 {
				d = nil // an empty datagram ends a multishot on some kernels
			}
			want = append(want, d)
			if _, err := s.Write(d); err != nil {
				t.Fatal(err)
			}
		}
		for i, d := range collect(t, c, len(want)) {
			if !bytes.Equal(d, want[i]) {
				t.Fatalf("datagram %d has %d bytes, want %d", i, len(d), len(want[i]))
			}
		}
	})
}

func TestAddressesAsPackageNet(t *testing.T) {
	each(t, func(t *testing.T, listen func(*testing.T, string, string) *Conn) {
		for _, tc := range []struct{ network, listen, to string }{
			{"udp4", "127.0.0.1:0", "127.0.0.1"},
			{"udp6", "[::1]:0", "::1"},
			{"udp", ":0", "127.0.0.1"},
			{"udp", ":0", "::1"},
		} {
			c := listen(t, tc.network, tc.listen)
			plain, err := net.ListenPacket(tc.network, tc.listen)
			if err != nil {
				t.Skipf("no %s here: %v", tc.network, err)
			}
			defer func() { _ = plain.Close() }()
			s, err := net.ListenPacket("udp", net.JoinHostPort(tc.to, "0"))
			if err != nil {
				t.Skipf("no %s here: %v", tc.to, err)
			}
			defer func() { _ = s.Close() }()
			send := func(to net.Addr) {
				a := *to.(*net.UDPAddr)
				a.IP = net.ParseIP(tc.to)
				if _, err := s.WriteTo([]byte("x"), &a); err != nil {
					t.Fatal(err)
				}
			}
			send(c.LocalAddr())
			send(plain.LocalAddr())
			p := make([]byte, 10)
			_, want, err := plain.ReadFrom(p)
			if err != nil {
				t.Fatal(err)
			}
			n, got, err := c.ReadFrom(p)
			if err != nil || n != 1 {
				t.Fatal(n, err)
			}
			if fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", want) {
				t.Errorf("%v: address %#v, package net has %#v", tc, got, want)
			}
		}
	})
}

func TestDeadlines(t *testing.T) {
	each(t, func(t *testing.T, listen func(*testing.T, string, string) *Conn) {
		c := listen(t, "udp", "127.0.0.1:0")
		s := dial(t, c)
		ms := messages(8)
		read := func() error { _, err := c.ReadBatch(ms, 0); return err }
		timeout := func(what string, err error) {
			t.Helper()
			var nerr net.Error
			if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &nerr) || !nerr.Timeout() {
				t.Fatalf("%s: %v, want a timeout", what, err)
			}
		}
		_ = c.SetReadDeadline(time.Now().Add(-time.Hour))
		timeout("past", read())
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		timeout("future", read())

		// Set during a blocked read, as quic-go does to end its reader.
		_ = c.SetReadDeadline(time.Time{})
		blocked := make(chan error)
		go func() { blocked <- read() }()
		select {
		case err := <-blocked:
			t.Fatalf("did not block: %v", err)
		case <-time.After(30 * time.Millisecond):
		}
		_ = c.SetReadDeadline(time.Now())
		timeout("during a read", <-blocked)

		// What arrives meanwhile is kept, and cleared means none.
		_, _ = s.Write([]byte("kept"))
		timeout("passed", read())
		_ = c.SetReadDeadline(time.Time{})
		if got := collect(t, c, 1); string(got[0]) != "kept" {
			t.Fatalf("read %q", got[0])
		}
	})
}

// TestReadersTakeTurns has several readers at the same time, and one after the
// other.
func TestReadersTakeTurns(t *testing.T) {
	each(t, func(t *testing.T, listen func(*testing.T, string, string) *Conn) {
		c := listen(t, "udp", "127.0.0.1:0")
		s := dial(t, c)
		const total = 400
		got := make(chan byte, total)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				ms := messages(8)
				for {
					n, err := c.ReadBatch(ms, 0)
					if err != nil {
						return
					}
					for i := range n {
						got <- ms[i].Buffers[0][0]
					}
				}
			})
		}
		for i := range total {
			if _, err := s.Write([]byte{byte(i)}); err != nil {
				t.Fatal(err)
			}
		}
		var seen [256]int
		for range total {
			select {
			case b := <-got:
				seen[b]++
			case <-time.After(10 * time.Second):
				t.Fatalf("lost datagrams: %+v", c.Stats())
			}
		}
		_ = c.SetReadDeadline(time.Now())
		wg.Wait()
		_ = c.SetReadDeadline(time.Time{})
		for i := range total {
			if want := (total - 1 - i%256) / 256; seen[byte(i)] != want+1 {
				t.Fatalf("datagram %d came %d times", i, seen[byte(i)])
			}
		}

		// All of those goroutines are gone; another one reads.
		for i := range 20 {
			_, _ = s.Write([]byte{byte(i)})
			done := make(chan []byte)
			go func() { done <- collect(t, c, 1)[0] }()
			if d := <-done; len(d) != 1 || d[0] != byte(i) {
				t.Fatalf("after a hand-over: read %v, want %d", d, i)
			}
		}
	})
}

func TestTooLongForTheReader(t *testing.T) {
	each(t, func(t *testing.T, listen func(*testing.T, string, string) *Conn) {
		c := listen(t, "udp", "127.0.0.1:0")
		s := dial(t, c)
		for _, n := range []int{100, 1453, 9000, 200} {
			if _, err := s.Write(make([]byte, n)); err != nil {
				t.Fatal(err)
			}
		}
		got := collect(t, c, 2)
		if len(got[0]) != 100 || len(got[1]) != 200 {
			t.Fatalf("read %d and %d bytes, want those that fit", len(got[0]), len(got[1]))
		}
		if st := c.Stats(); st.Truncated != 2 || st.Datagrams != 2 {
			t.Fatalf("%+v", st)
		}
	})
}

func TestReadMsgUDPCutsLikePackageNet(t *testing.T) {
	each(t, func(t *testing.T, listen func(*testing.T, string, string) *Conn) {
		c := listen(t, "udp", "127.0.0.1:0")
		s := dial(t, c)
		_, _ = s.Write([]byte("hello"))
		_, _ = s.Write([]byte("again"))
		n, _, flags, addr, err := c.ReadMsgUDP(make([]byte, 3), nil)
		if n != 3 || flags == 0 || addr == nil || err != nil {
			t.Fatalf("n %d flags %#x addr %v err %v", n, flags, addr, err)
		}
		p := make([]byte, 10)
		n, from, err := c.ReadFrom(p)
		if string(p[:n]) != "again" || from == nil || err != nil {
			t.Fatalf("%q %v %v", p[:n], from, err)
		}
		if _, err := c.WriteTo([]byte("back"), from); err != nil {
			t.Fatal(err)
		}
		_ = s.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := s.Read(p); string(p[:n]) != "back" || err != nil {
			t.Fatalf("%q %v", p[:n], err)
		}
	})
}

// TestBurst overruns the ring's buffers: every datagram is either delivered or
// counted by the kernel.
func TestBurst(t *testing.T) {
	for _, backend := range built() {
		t.Run(backend.String(), func(t *testing.T) {
			needUring(t, backend)
			c, err := Listen("udp", "127.0.0.1:0", WithBackend(backend), WithGRO(false), WithBuffers(2))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			s := dial(t, c)
			const total = 10_000
			for i := range total {
				if _, err := s.Write([]byte{byte(i), byte(i >> 8)}); err != nil {
					t.Fatal(err)
				}
			}
			_ = c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
			ms := messages(8)
			got, last := 0, -1
			for {
				n, err := c.ReadBatch(ms, 0)
				if err != nil {
					if !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Fatal(err)
					}
					break
				}
				for i := range n {
					seq := int(ms[i].Buffers[0][0]) | int(ms[i].Buffers[0][1])<<8
					if seq <= last {
						t.Fatalf("datagram %d after %d", seq, last)
					}
					last = seq
				}
				got += n
			}
			st := c.Stats()
			if runtime.GOOS == "linux" && uint64(got)+st.KernelDrops != total {
				t.Fatalf("sent %d, received %d, dropped by the kernel %d: %+v", total, got, st.KernelDrops, st)
			}
			if backend == Uring && st.Enters > 3*total {
				t.Fatalf("it spins: %+v", st)
			}
		})
	}
}

func TestBadArguments(t *testing.T) {
	for _, tc := range []struct {
		network, addr string
		opts          []Option
	}{
		{"tcp", "127.0.0.1:0", nil},
		{"udp", "nonsense", nil},
		{"udp", "127.0.0.1:0", []Option{WithBuffers(3)}},
		{"udp", "127.0.0.1:0", []Option{WithBuffers(64)}},
		{"udp", "127.0.0.1:0", []Option{WithBackend(Backend(99))}},
	} {
		if c, err := Listen(tc.network, tc.addr, tc.opts...); err == nil {
			_ = c.Close()
			t.Errorf("Listen(%q, %q) with bad arguments succeeded", tc.network, tc.addr)
		}
	}
	c, err := Listen("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for name, read := range map[string]func() error{
		"flags":       func() error { _, err := c.ReadBatch(messages(1), 1); return err },
		"no messages": func() error { _, err := c.ReadBatch(nil, 0); return err },
		"no buffer":   func() error { _, err := c.ReadBatch(make([]ipv4.Message, 1), 0); return err },
	} {
		if read() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestBackendNames(t *testing.T) {
	for b := Auto; b <= Msg; b++ {
		text, _ := b.MarshalText()
		var back Backend
		if err := back.UnmarshalText(text); err != nil || back != b {
			t.Errorf("%v became %v, %v", b, back, err)
		}
	}
	if _, err := ParseBackend("epoll"); err == nil {
		t.Error("epoll was taken for a backend")
	}
}

// TestAutoSaysWhy switches io_uring off in each way that can be had here.
func TestAutoSaysWhy(t *testing.T) {
	reason := func(opts ...Option) (*Conn, string, error) {
		c, err := Listen("udp", "127.0.0.1:0", opts...)
		if err != nil {
			return nil, "", err
		}
		defer func() { _ = c.Close() }()
		return c, c.Reason(), nil
	}
	c, why, err := reason()
	if err != nil || why == "" || c.Backend() == Auto {
		t.Fatalf("auto: %v, %q, %v", c, why, err)
	}
	t.Setenv(EnvDisableUring, "1")
	c, why, err = reason()
	if err != nil || c.Backend() == Uring || !bytes.Contains([]byte(why), []byte(EnvDisableUring)) {
		t.Fatalf("with %s: %v, %q, %v", EnvDisableUring, c, why, err)
	}
	if _, _, err = reason(WithBackend(Uring)); err == nil {
		t.Error("uring was asked for by name and switched off, and it fell back")
	}
	if _, _, err = reason(WithStrict(true)); err == nil {
		t.Error("strict fell back")
	}
	t.Setenv(EnvDisableGRO, "1")
	if c, _, err = reason(); err != nil || c.GRO() {
		t.Errorf("with %s: %v, %v", EnvDisableGRO, c, err)
	}
	t.Setenv(EnvDisableGRO, "perhaps")
	if _, _, err = reason(); err == nil {
		t.Error("a switch that is neither on nor off was taken")
	}
}
