package takeover

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/udp"
)

// begin makes an instance in this process, ready unless s.Hold.
func begin(t *testing.T, s settings) *instance {
	t.Helper()
	s.Verbose = testing.Verbose()
	if s.Grace == 0 {
		s.Grace = 2 * time.Minute
	}
	in, err := open(s, testCert(t))
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	t.Cleanup(func() {
		close(over)
		if err := in.end(); err != nil {
			t.Error(err)
		}
	})
	go func() {
		select {
		case <-in.l.Superseded():
			_ = in.end()
		case <-over:
		}
	}()
	if !s.Hold {
		if err := in.l.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return in
}

// succeed begins one that takes over from in.
func (in *instance) succeed(t *testing.T, s settings) *instance {
	t.Helper()
	s.Address, s.Takeover = in.l.Addr().String(), true
	return begin(t, s)
}

func (in *instance) superseded(t *testing.T) {
	t.Helper()
	select {
	case <-in.l.Superseded():
	case <-time.After(time.Minute):
		t.Fatal("not superseded")
	}
}

// ask wants an answer, and of a certain instance.
func ask(t *testing.T, tr http.RoundTripper, addr string, of *instance) {
	t.Helper()
	gen, err := put(t.Context(), tr, addr, []byte("hello"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if gen != int(of.l.own) {
		t.Errorf("generation %d answered, want %d", gen, of.l.own)
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not so: " + what)
		}
	}
}

// TestInUse starts a second instance that was not told to take over.
func TestInUse(t *testing.T) {
	first := start(t, settings{Address: "127.0.0.1:0", Shards: 1})
	_, err := open(settings{Address: first.addr, Shards: 1}, testCert(t))
	var inUse *InUseError
	if !errors.As(err, &inUse) || inUse.PID != first.cmd.Process.Pid || !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("%v, want an InUseError of process %d", err, first.cmd.Process.Pid)
	}
	for _, want := range []string{first.addr, fmt.Sprint(first.cmd.Process.Pid), "--takeover", "another port"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	// After a hand-over it is the new process that has the address.
	second := start(t, settings{Address: first.addr, Shards: 1, Takeover: true})
	first.ended()
	if _, err = open(settings{Address: first.addr, Shards: 1}, testCert(t)); !errors.As(err, &inUse) || inUse.PID != second.cmd.Process.Pid {
		t.Errorf("%v, want an InUseError of process %d", err, second.cmd.Process.Pid)
	}
	// And nobody when it has ended, with or without Takeover.
	second.kill()
	third := begin(t, settings{Address: first.addr, Shards: 1, Takeover: true})
	ask(t, newClient(t), first.addr, third)
}

// TestOtherProgram starts where another program has the port.
func TestOtherProgram(t *testing.T) {
	for _, shared := range []bool{false, true} {
		lc := net.ListenConfig{}
		if shared {
			lc.Control = func(_, _ string, raw syscall.RawConn) error {
				return raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, 15 /* SO_REUSEPORT */, 1) })
			}
		}
		c, err := lc.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, err = open(settings{Address: c.LocalAddr().String(), Shards: 2, Takeover: true}, testCert(t))
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("shared %v: %v", shared, err)
		}
		// The control socket was given back.
		_ = c.Close()
		in := begin(t, settings{Address: c.LocalAddr().String(), Shards: 2})
		ask(t, newClient(t), c.LocalAddr().String(), in)
	}
}

// TestAddresses has instances on the same port of two addresses, which have nothing
// to do with each other.
func TestAddresses(t *testing.T) {
	a := begin(t, settings{Address: "127.0.0.1:0", Shards: 2, Steering: true})
	other := fmt.Sprintf("127.0.0.2:%d", a.l.Addr().Port)
	b := begin(t, settings{Address: other, Shards: 2, Steering: true, Takeover: true})
	ask(t, newClient(t), a.l.Addr().String(), a)
	ask(t, newClient(t), other, b)
}

// TestSplitHandshake hands over in the middle of handshakes: between the two packets
// of a ClientHello, and between it and the answer.
func TestSplitHandshake(t *testing.T) {
	// The first byte of a packet of version 1 (RFC 9000 §17.2) and the length of its
	// destination connection ID tell the packets that a client sends first.
	newcomer := func(d []byte) bool { to, _ := udp.AddresseeOf(d); return to == udp.Newcomer }
	for _, tc := range []struct {
		name     string
		toServer bool                                      // what is waited for
		keep     func(n int, d []byte, toServer bool) bool // n-th datagram of a newcomer, from 1
	}{
		// With the answers to the first, lest a slow client sends the second to the
		// connection ID in them.
		{"second packet of the ClientHello", true, func(n int, d []byte, toServer bool) bool { return !toServer || newcomer(d) && n >= 2 }},
		{"first packet of the ClientHello", true, func(n int, d []byte, toServer bool) bool { return toServer && newcomer(d) && n == 1 }},
		{"answer", false, func(_ int, _ []byte, toServer bool) bool { return !toServer }},
		{"what follows the ClientHello", true, func(_ int, d []byte, toServer bool) bool { return toServer && !newcomer(d) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			modes(t, func(t *testing.T, s settings) {
				t.Parallel()
				first := begin(t, s)
				r := newRelay(t, first.l.Addr().String())
				var initials, kept atomic.Int64
				r.filter(func(d []byte, toServer bool) bool {
					if toServer && newcomer(d) {
						initials.Add(1)
					}
					keep := tc.keep(int(initials.Load()), d, toServer)
					if keep && toServer == tc.toServer {
						kept.Add(1)
					}
					return keep
				})
				done := make(chan error, 1)
				start := time.Now()
				go func() {
					_, err := put(context.Background(), newClient(t), r.addr(), []byte("split"), 0)
					done <- err
				}()
				eventually(t, "something is kept back", func() bool { return kept.Load() > 0 })
				first.succeed(t, s)
				n := r.release()
				select {
				case err := <-done:
					if err != nil {
						t.Error(err)
					}
				case <-time.After(time.Minute):
					t.Fatal("no answer")
				}
				t.Logf("%d packets of the client came late; answer after %v", n, time.Since(start))
			})
		})
	}
}

// TestEndsBeforeReady has new instances end before they were ready, by kill -9.
func TestEndsBeforeReady(t *testing.T) {
	modes(t, func(t *testing.T, s settings) {
		if s.Steering != (s.Shards == 1) {
			return // as the others, and slow
		}
		first := start(t, s)
		l := startLoad(t, first.addr, 4, 2, 2)
		s.Address, s.Takeover, s.Hold = first.addr, true, true
		const tries = 2
		for range tries {
			p := spawn(t, s)
			p.expect("bound")
			time.Sleep(300 * time.Millisecond) // under load, beside the first
			p.kill()
		}
		t.Log(l.end())
		for gen := range l.byGen {
			if gen != first.generation {
				t.Errorf("generation %d answered", gen)
			}
		}
		s.Hold = false
		second := start(t, s)
		first.ended()
		if first.counts["handovers_total abandoned"] != tries {
			t.Errorf("%v", first.counts)
		}
		if gen, err := put(t.Context(), newClient(t), second.addr, nil, 0); err != nil || gen != second.generation {
			t.Errorf("generation %d, %v", gen, err)
		}
	})
}

// TestEndsEarly has a new instance end right after it has taken over: the old one is
// there yet, and goes on.
func TestEndsEarly(t *testing.T) {
	modes(t, func(t *testing.T, s settings) {
		first := begin(t, s)
		addr := first.l.Addr().String()
		kept := newClient(t)
		ask(t, kept, addr, first)
		s.Address, s.Takeover = addr, true
		second := start(t, s)
		second.kill()
		eventually(t, "the end is noticed", func() bool { return first.counts()["handovers_total abandoned"] == 1 })
		for range 20 {
			ask(t, newClient(t), addr, first)
		}
		ask(t, kept, addr, first)
		select {
		case <-first.l.Superseded():
			t.Error("superseded by an instance that has ended")
		default:
		}
		third := begin(t, s)
		ask(t, newClient(t), addr, third)
		first.superseded(t)
	})
}

// TestEndsLate has a new instance end when the old one has begun to shut down: one
// more can take over from that.
func TestEndsLate(t *testing.T) {
	modes(t, func(t *testing.T, s settings) {
		t.Parallel()
		first := begin(t, s)
		addr := first.l.Addr().String()
		s.Address, s.Takeover = addr, true
		u := beginUpload(t, newClient(t), addr, 100_000)
		second := start(t, s)
		first.superseded(t)
		second.kill()
		third := begin(t, s)
		ask(t, newClient(t), addr, third)
		u.finish(t, int(first.l.own))
	})
}

// TestOldIsKilled kills the old instance while it finishes a request: its client
// hears of it by a stateless reset, from the new one.
func TestOldIsKilled(t *testing.T) {
	modes(t, func(t *testing.T, s settings) {
		first := start(t, s)
		tr := newClient(t)
		u := beginUpload(t, tr, first.addr, 1_000_000)
		s.Address, s.Takeover = first.addr, true
		second := start(t, s)
		first.kill()
		select {
		case <-u.over:
			var reset *tailfin.StatelessReset
			if !errors.As(u.err, &reset) {
				t.Errorf("%v, want a StatelessReset", u.err)
			}
		case <-time.After(time.Minute):
			t.Fatal("the client does not hear of it")
		}
		if gen, err := put(t.Context(), tr, second.addr, nil, 0); err != nil || gen != second.generation {
			t.Errorf("generation %d, %v", gen, err)
		}
	})
}

// TestChain has a third instance take over while the first finishes requests. The
// second stays as long as the first needs it.
func TestChain(t *testing.T) {
	modes(t, func(t *testing.T, s settings) {
		t.Parallel()
		first := start(t, s)
		// From many ports, so that the kernel's hash gives them to all three.
		var uploads []*upload
		for range 12 {
			uploads = append(uploads, beginUpload(t, newClient(t), first.addr, 100_000))
		}
		s.Address, s.Takeover = first.addr, true
		second := start(t, s)
		first.expect("superseded")
		third := start(t, s)
		second.expect("superseded")
		select {
		case <-second.exited:
			t.Error("the second instance left the first alone")
		default:
		}
		for _, u := range uploads {
			u.finish(t, first.generation)
		}
		first.ended()
		second.ended()
		if gen, err := put(t.Context(), newClient(t), third.addr, nil, 0); err != nil || gen != third.generation {
			t.Errorf("generation %d, %v", gen, err)
		}
		_ = third.stdin.Close()
		third.ended()
		t.Log(second.counts, third.counts)
		if forwarded := third.counts["forwarded_datagrams_total older"] > 0; forwarded == s.Steering {
			t.Errorf("the third passed datagrams on: %v", forwarded)
		}
	})
}

// TestWildcard spreads requests at a wildcard address over a hand-over, by relays
// that hear only the address that they speak to.
func TestWildcard(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", "[::]:0"} {
		for _, steering := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s,steering=%v", address, steering), func(t *testing.T) {
				s := settings{Address: address, Shards: 2, Steering: steering}
				first := begin(t, s)
				_, port, _ := net.SplitHostPort(first.l.Addr().String())
				var uploads []*upload
				const n = 8
				for i := range n {
					r := newRelay(t, net.JoinHostPort([]string{"127.0.0.1", "127.0.0.2"}[i%2], port))
					uploads = append(uploads, beginUpload(t, newClient(t), r.addr(), 100_000))
				}
				second := first.succeed(t, s)
				for i := range n { // newcomers that come to either
					r := newRelay(t, net.JoinHostPort([]string{"127.0.0.1", "127.0.0.2"}[i%2], port))
					ask(t, newClient(t), r.addr(), second)
				}
				for _, u := range uploads {
					u.finish(t, int(first.l.own))
				}
				counts := second.counts()
				if forwarded := counts["forwarded_datagrams_total older"] > 0; forwarded == steering {
					t.Errorf("%v", counts)
				}
			})
		}
	}
}

// TestRebinding changes the port of a client again and again during a hand-over.
func TestRebinding(t *testing.T) {
	modes(t, func(t *testing.T, s settings) {
		t.Parallel()
		first := begin(t, s)
		r := newRelay(t, first.l.Addr().String())
		u := beginUpload(t, newClient(t), r.addr(), 600_000)
		first.succeed(t, s)
		for range 3 {
			r.rebind()
			eventually(t, "the server goes on at the new port", r.answered)
		}
		u.finish(t, int(first.l.own))
	})
}

// TestKeys resumes a TLS session, and uses an address validation token, at an
// instance that has issued neither.
func TestKeys(t *testing.T) {
	s := settings{Address: "127.0.0.1:0", Shards: 1}
	first := begin(t, s)
	addr := first.l.Addr().String()
	conf := newClient(t).TLSClientConfig
	conf.ClientSessionCache = tls.NewLRUClientSessionCache(10)
	conf.NextProtos = []string{tailfin.NextProto}
	tokens := quic.NewLRUTokenStore(10, 10)
	dial := func() *quic.Conn {
		t.Helper()
		c, err := quic.DialAddr(t.Context(), addr, conf, &quic.Config{TokenStore: tokens})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.CloseWithError(0, "") })
		return c
	}
	c := dial()
	if c.ConnectionState().TLS.DidResume {
		t.Fatal("a session of nobody was resumed")
	}
	eventually(t, "a ticket came", func() bool {
		session, ok := conf.ClientSessionCache.Get("127.0.0.1")
		return ok && session != nil
	})
	var got *quic.ClientToken
	eventually(t, "a token came", func() bool { got = tokens.Pop("127.0.0.1"); return got != nil })
	tokens.Put("127.0.0.1", got)

	verified := make(chan bool, 1)
	s.prepare = func(tr *quic.Transport) {
		tr.ConnContext = func(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
			verified <- info.AddrVerified
			return ctx, nil
		}
	}
	first.succeed(t, s)
	if c := dial(); !c.ConnectionState().TLS.DidResume {
		t.Error("the session was not resumed")
	}
	if !<-verified {
		t.Error("the token was not taken")
	}
}

// TestTicketKeys lets keys grow old.
func TestTicketKeys(t *testing.T) {
	keys := newTicketKeys(nil)
	var firsts [][32]byte
	for range maxTicketKeys + 3 {
		now := keys.current()
		if again := keys.current(); again[0] != now[0] {
			t.Fatal("a new key within the day")
		}
		firsts = append(firsts, now[0])
		keys.made = keys.made.Add(-ticketKeyAge - time.Second)
	}
	now := keys.current()
	if len(now) != maxTicketKeys || now[1] != firsts[len(firsts)-1] {
		t.Errorf("%d keys", len(now))
	}
}

// TestRefusals has instances ask that get no offer.
func TestRefusals(t *testing.T) {
	first := begin(t, settings{Address: "127.0.0.1:0", Shards: 1})
	addr := first.l.Addr().String()
	held := first.succeed(t, settings{Shards: 1, Hold: true})
	_, err := open(settings{Address: addr, Shards: 1, Takeover: true}, testCert(t))
	if want := fmt.Sprintf("handing over to process %d", os.Getpid()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
	if err := held.end(); err != nil {
		t.Error(err)
	}
	eventually(t, "the end is noticed", func() bool { return first.l.newer.Load() == nil })

	// One of another version, and one that talks nonsense.
	for _, message := range []string{`h{"version":99,"takeover":true}`, "h{", "", "?"} {
		_, conn, err := acquire(t.Context(), lockName("udp", first.l.Addr()))
		if err != nil || conn == nil {
			t.Fatal(conn, err)
		}
		_, _ = conn.Write([]byte(message))
		if message == "" {
			_ = conn.Close()
			continue
		}
		buf := make([]byte, maxMessage)
		_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		n, err := conn.Read(buf)
		var r refusal
		if strings.Contains(message, "version") {
			if err := decode(buf[:n], kindRefusal, &r); err != nil || !strings.Contains(r.Reason, "version 1") {
				t.Errorf("%q: %v", buf[:n], err)
			}
		} else if err == nil {
			t.Errorf("%q is answered by %q", message, buf[:n])
		}
		_ = conn.Close()
	}
	ask(t, newClient(t), addr, first)
}
