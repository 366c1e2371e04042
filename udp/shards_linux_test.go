package udp

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

// steered runs f with shards that the kernel steers, and with such that hand
// over what comes to the wrong one.
func steered(t *testing.T, f func(t *testing.T, listen func(t *testing.T, network, addr string, n int) *Shards)) {
	for _, kernel := range []bool{true, false} {
		t.Run(fmt.Sprintf("kernel=%v", kernel), func(t *testing.T) {
			f(t, func(t *testing.T, network, addr string, n int) *Shards {
				t.Helper()
				s, err := ListenShards(network, addr, n, WithSteering(kernel))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = s.Close() })
				for _, c := range s.Conns() {
					if err := c.SetReadBuffer(8 << 20); err != nil {
						t.Fatal(err)
					}
				}
				if got, why := s.Steering(); n > 1 && got != kernel {
					if os.Geteuid() != 0 {
						t.Skipf("needs root to load a program: %s", why)
					}
					t.Fatalf("steered by the kernel: %v: %s", got, why)
				}
				return s
			})
		})
	}
}

// arrivals counts what each shard reads, until nothing comes for a while.
func arrivals(t *testing.T, s *Shards) [][][]byte {
	t.Helper()
	got := make([][][]byte, len(s.Conns()))
	var wg sync.WaitGroup
	for i, c := range s.Conns() {
		wg.Go(func() {
			ms := messages(8)
			for {
				_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
				n, err := c.ReadBatch(ms, 0)
				if err != nil {
					if !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Error(err)
					}
					return
				}
				for _, m := range ms[:n] {
					got[i] = append(got[i], bytes.Clone(m.Buffers[0][:m.N]))
				}
			}
		})
	}
	wg.Wait()
	return got
}

// TestShardsSteer sends datagrams with every kind of header from many ports,
// and wants each at the shard that shardOf names, whatever port it came from.
func TestShardsSteer(t *testing.T) {
	steered(t, func(t *testing.T, listen func(*testing.T, string, string, int) *Shards) {
		for _, tc := range []struct {
			network, addr, to string
			n                 int
		}{
			{"udp4", "127.0.0.1:0", "127.0.0.1", 1},
			{"udp4", "127.0.0.1:0", "127.0.0.1", 2},
			{"udp6", "[::1]:0", "::1", 3},
			{"udp", ":0", "127.0.0.1", 8},
			{"udp", ":0", "::1", 5},
		} {
			s := listen(t, tc.network, tc.addr, tc.n)
			port := s.Conns()[0].LocalAddr().(*net.UDPAddr).Port
			long := func(length int, id []byte) []byte {
				return append([]byte{0xc3, 0, 0, 0, 1, byte(length)}, append(bytes.Clone(id), make([]byte, 50)...)...)
			}
			var sent [][]byte
			for i := range 200 {
				id := make([]byte, 20)
				_, _ = rand.Read(id)
				own, err := s.ConnectionIDs(i % tc.n).GenerateConnectionID()
				if err != nil || own.Len() != s.ConnectionIDs(0).ConnectionIDLen() {
					t.Fatal(own, err)
				}
				mine := append(append([]byte{0x41}, own.Bytes()...), bytes.Repeat([]byte{byte(i)}, 30)...)
				if to, ok := shardOf(mine, tc.n); !ok || to != i%tc.n {
					t.Fatalf("an ID of shard %d is one of %d", i%tc.n, to)
				}
				sent = append(sent, mine, long(shardIDLen, own.Bytes()), long(8+i%13, id),
					long(i%7, id), long(21+i, id), id[:i%8])
			}
			for i, d := range sent {
				// A few datagrams a port, so that the kernel's hash would spread them.
				c, err := net.Dial("udp", net.JoinHostPort(tc.to, fmt.Sprint(port)))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.Write(d); err != nil {
					t.Fatalf("datagram %d: %v", i, err)
				}
				_ = c.Close()
			}
			total, spread := 0, 0
			for i, list := range arrivals(t, s) {
				for _, d := range list {
					if to, ok := shardOf(d, tc.n); ok && to != i {
						t.Errorf("%+v: a datagram for shard %d came to %d: % x", tc, to, i, d[:8])
					}
				}
				if total += len(list); len(list) > 0 {
					spread++
				}
			}
			if total != len(sent) || spread != tc.n {
				t.Errorf("%+v: %d datagrams of %d came, to %d shards", tc, total, len(sent), spread)
			}
			var handed uint64
			for _, c := range s.Conns() {
				handed += c.Stats().HandedOver
			}
			if kernel, _ := s.Steering(); kernel && handed > 0 {
				t.Errorf("%+v: the kernel steers, and %d datagrams had to be handed over", tc, handed)
			} else if !kernel && tc.n > 1 && handed == 0 {
				t.Errorf("%+v: nothing was handed over, so this shows nothing", tc)
			}
			_ = s.Close()
		}
	})
}

// TestShardsTakeTrainsApart has datagrams for two shards joined to one train,
// as the kernel does with two connections of one client.
func TestShardsTakeTrainsApart(t *testing.T) {
	steered(t, func(t *testing.T, listen func(*testing.T, string, string, int) *Shards) {
		s := listen(t, "udp4", "127.0.0.1:0", 2)
		c := dial(t, s.Conns()[0])
		var train []byte
		const segment, count = 100, 40
		for i := range count {
			id, _ := s.ConnectionIDs(i % 2).GenerateConnectionID()
			d := append(append([]byte{0x41}, id.Bytes()...), byte(i))
			train = append(train, append(d, make([]byte, segment-len(d))...)...)
		}
		sendTrain(t, c, segment, train)
		for shard, list := range arrivals(t, s) {
			if len(list) != count/2 {
				t.Errorf("shard %d read %d datagrams, want %d", shard, len(list), count/2)
			}
			for i, d := range list {
				if int(d[8]) != 2*i+shard {
					t.Fatalf("shard %d: datagram %d at %d", shard, d[8], i)
				}
			}
		}
	})
}

// natBox forwards between a client and a server, and can take another port
// towards the server, as a NAT does that has forgotten.
type natBox struct {
	inside *net.UDPConn
	server net.Addr

	mu      sync.Mutex
	outside *net.UDPConn
	client  net.Addr
	wg      sync.WaitGroup
}

func newNAT(t *testing.T, server net.Addr) *natBox {
	t.Helper()
	inside, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	n := &natBox{inside: inside, server: server}
	n.rebind(t)
	n.wg.Go(func() {
		p := make([]byte, 2000)
		for {
			k, from, err := inside.ReadFrom(p)
			if err != nil {
				return
			}
			n.mu.Lock()
			n.client = from
			_, _ = n.outside.WriteTo(p[:k], n.server)
			n.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		_ = inside.Close()
		n.mu.Lock()
		_ = n.outside.Close()
		n.mu.Unlock()
		n.wg.Wait()
	})
	return n
}

func (n *natBox) rebind(t *testing.T) {
	t.Helper()
	out, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.outside != nil {
		_ = n.outside.Close()
	}
	n.outside = out
	n.wg.Go(func() {
		p := make([]byte, 2000)
		for {
			k, _, err := out.ReadFrom(p)
			if err != nil {
				return
			}
			n.mu.Lock()
			client := n.client
			n.mu.Unlock()
			_, _ = n.inside.WriteTo(p[:k], client)
		}
	})
}

// TestShardsQUIC has a server of three shards. Uploads spread over them, go on
// when a NAT takes another port, again and again, and when the client moves to
// another socket.
func TestShardsQUIC(t *testing.T) {
	tlsConf := testTLS(t)
	steered(t, func(t *testing.T, listen func(*testing.T, string, string, int) *Shards) {
		s := listen(t, "udp4", "127.0.0.1:0", 3)
		for i, c := range s.Conns() {
			serveEcho(t, &quic.Transport{Conn: c, ConnectionIDGenerator: s.ConnectionIDs(i)}, tlsConf, nil)
		}
		addr := s.Conns()[0].LocalAddr()
		for range 24 {
			c, err := Listen("udp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			tr, conn := dialQUIC(t, c, addr, tlsConf, nil)
			echo(t, conn, 20_000)
			_ = conn.CloseWithError(0, "")
			_ = tr.Close()
			_ = c.Close()
		}
		for i, c := range s.Conns() {
			if c.Stats().Datagrams == 0 {
				t.Errorf("shard %d of 3 got none of 24 connections", i)
			}
		}

		nat := newNAT(t, addr)
		c, err := Listen("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_, conn := dialQUIC(t, c, nat.inside.LocalAddr(), tlsConf, nil)
		for range 8 {
			echo(t, conn, 200_000)
			nat.rebind(t)
		}
		echo(t, conn, 200_000)
		_ = conn.CloseWithError(0, "")

		direct, err := Listen("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = direct.Close() }()
		_, conn = dialQUIC(t, direct, addr, tlsConf, nil)
		other, err := Listen("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = other.Close() }) // after the Transport that migrate makes on it
		migrate(t, conn, other)
		echo(t, conn, 200_000)
		_ = conn.CloseWithError(0, "")
		for i, c := range s.Conns() {
			if st := c.Stats(); st.InboxDrops > 0 {
				t.Logf("shard %d: %+v", i, st)
			}
		}
	})
}

// TestShardsDial has a client dial from a shard: the answers must come to it.
func TestShardsDial(t *testing.T) {
	tlsConf := testTLS(t)
	steered(t, func(t *testing.T, listen func(*testing.T, string, string, int) *Shards) {
		server, err := Listen("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = server.Close() })
		echoServer(t, server, tlsConf, nil, false)
		s := listen(t, "udp4", "127.0.0.1:0", 3)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var transports []*quic.Transport
		for i, c := range s.Conns() {
			transports = append(transports, &quic.Transport{Conn: c, ConnectionIDGenerator: s.ConnectionIDs(i)})
		}
		defer func() {
			for _, tr := range transports {
				_ = tr.Close()
			}
		}()
		for _, tr := range transports {
			if _, err := tr.WriteTo([]byte{0}, server.LocalAddr()); err != nil { // all read from now on
				t.Fatal(err)
			}
		}
		for i, tr := range transports {
			conn, err := tr.Dial(ctx, server.LocalAddr(), tlsConf, nil)
			if err != nil {
				t.Fatalf("shard %d: %v", i, err)
			}
			echo(t, conn, 200_000)
			_ = conn.CloseWithError(0, "")
		}
	})
}

func TestShardsClose(t *testing.T) {
	steered(t, func(t *testing.T, listen func(*testing.T, string, string, int) *Shards) {
		first := listen(t, "udp4", "127.0.0.1:0", 4)
		addr := first.Conns()[0].LocalAddr().String()
		_ = first.Close()
		before := resources(t)
		for range 50 {
			s := listen(t, "udp4", addr, 4)
			var wg sync.WaitGroup
			for _, c := range s.Conns() {
				wg.Go(func() { _, _ = c.ReadBatch(messages(1), 0) })
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			wg.Wait()
		}
		settled(t, before, 50)
		plain, err := net.ListenPacket("udp4", addr)
		if err != nil {
			t.Fatalf("the port is not free: %v", err)
		}
		_ = plain.Close()
	})
}

func TestShardsBadArguments(t *testing.T) {
	for _, n := range []int{-1, 0, MaxShards + 1} {
		if s, err := ListenShards("udp", "127.0.0.1:0", n); err == nil {
			_ = s.Close()
			t.Errorf("%d shards were made", n)
		}
	}
	taken, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	before := resources(t).fds
	if _, err := ListenShards("udp4", taken.LocalAddr().String(), 2); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("an address that is taken: %v", err)
	}
	if after := resources(t).fds; after != before {
		t.Errorf("%d descriptors before, %d after a failure", before, after)
	}
	t.Setenv(EnvDisableSteering, "1")
	s, err := ListenShards("udp4", "127.0.0.1:0", 2)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if kernel, why := s.Steering(); kernel || why == "" {
		t.Errorf("with %s: %v, %q", EnvDisableSteering, kernel, why)
	}
}

// envShards has a test process open shards and print what steers them.
const envShards = "TAILFIN_TEST_SHARDS"

func TestShardsChild(t *testing.T) {
	if os.Getenv(envShards) == "" {
		return // run as a test of its own it has nothing to do
	}
	s, err := ListenShards("udp4", "127.0.0.1:0", 2)
	if err != nil {
		t.Fatal(err)
	}
	kernel, why := s.Steering()
	fmt.Printf("steering: %v: %s\n", kernel, why)
	_ = s.Close()
	_, err = ListenShards("udp4", "127.0.0.1:0", 2, WithBackend(Mmsg), WithStrict(true))
	fmt.Printf("strict: %v\n", err)
}

// TestShardsWithoutPermission runs as a user who may not load programs.
func TestShardsWithoutPermission(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become another user")
	}
	exe := t.TempDir() + "/test" // where nobody may read it
	text, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	for dir := exe[:len(exe)-5]; dir != "/tmp" && len(dir) > 4; dir = dir[:strings.LastIndexByte(dir, '/')] {
		_ = os.Chmod(dir, 0o755)
	}
	if err := os.WriteFile(exe, text, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestShardsChild$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), envShards+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"steering: false: ", "CAP_BPF", "strict: udp: strict, but the kernel does not steer"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("want %q in:\n%s", want, out)
		}
	}
}

// FuzzShardOf wants connection IDs of ours recognized in whatever follows them.
func FuzzShardOf(f *testing.F) {
	f.Add([]byte{0xc0, 0, 0, 0, 1, 7, 1, 2, 3, 4, 5, 6, 7}, 3)
	f.Add([]byte{0x40, 9}, 2)
	f.Fuzz(func(t *testing.T, d []byte, n int) {
		if n < 1 || n > MaxShards {
			return
		}
		if i, ok := shardOf(d, n); ok && (i < 0 || i >= n) {
			t.Errorf("shard %d of %d", i, n)
		}
		id, err := connectionIDs{len(d) % n, routing{n, noGeneration}}.GenerateConnectionID()
		if err != nil {
			t.Fatal(err)
		}
		if i, ok := shardOf(append(append([]byte{0x40}, id.Bytes()...), d...), n); !ok || i != len(d)%n {
			t.Errorf("an ID of shard %d is one of %d, %v", len(d)%n, i, ok)
		}
	})
}

// shardOf is that of shards without a generation.
func shardOf(d []byte, n int) (int, bool) { return routing{n, noGeneration}.shardOf(d) }
