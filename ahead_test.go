package tailfin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"

	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/udp"
)

// A mortal is a quic-go endpoint that can die without a word.
type mortal struct {
	conn *udp.Conn
	tr   *quic.Transport
}

func newMortal(t *testing.T) *mortal {
	t.Helper()
	conn, err := udp.Listen("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// With a key its connection IDs come with tokens that are worth something.
	m := &mortal{conn, &quic.Transport{Conn: conn, StatelessResetKey: &quic.StatelessResetKey{1, 2, 3}}}
	t.Cleanup(func() {
		_ = m.tr.Close()
		_ = conn.Close()
	})
	return m
}

// die takes the socket away. Nothing more is sent.
func (m *mortal) die() { _ = m.conn.Close() }

// An unreadStreams is a connection at its receiver, with streams that nobody has
// read from while their sender died.
type unreadStreams struct {
	receiver *quic.Conn
	barrier  *barrier
	sender   *mortal
	open     *recvStream // 5000 bytes and no FIN
	whole    *recvStream // 9000 bytes and a FIN
	counters *drainCounters
}

// leaveUnread has a client or a server send to the other end, which has a barrier
// with the given idle timeout, and a guard.
func leaveUnread(t *testing.T, clientSends bool, idle time.Duration) *unreadStreams {
	t.Helper()
	return leaveUnreadWith(t, clientSends, idle, drainOptions{counters: new(drainCounters)})
}

func leaveUnreadWith(t *testing.T, clientSends bool, idle time.Duration, opts drainOptions) *unreadStreams {
	t.Helper()
	server, client := newMortal(t), newMortal(t)
	u := &unreadStreams{counters: opts.counters, sender: server}
	receiver := client
	if clientSends {
		u.sender, receiver = client, server
	}
	opts.guard = guardResets(receiver.conn, nil)
	confs := map[*mortal]*quic.Config{
		u.sender: {MaxIdleTimeout: time.Minute},
		receiver: opts.install(&quic.Config{MaxIdleTimeout: idle}),
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ln, err := server.tr.Listen(serverTLS(t), confs[server])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	tlsConf := clientTLS(t)
	tlsConf.ServerName = "localhost"
	dialed, err := client.tr.Dial(ctx, server.conn.LocalAddr(), tlsConf, confs[client])
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := ln.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sending, receiving := accepted, dialed
	if clientSends {
		sending, receiving = dialed, accepted
	}
	u.receiver = receiving
	u.barrier = barrierOf(receiving, !clientSends, opts)
	for i, size := range []int{5000, 9000} {
		s, err := sending.OpenUniStreamSync(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write(peer.Pattern(size)); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			_ = s.Close()
		}
		recv, err := u.barrier.acceptUniStream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for !u.barrier.arrived(s.StreamID(), int64(size), i == 1) {
			time.Sleep(time.Millisecond)
		}
		if i == 0 {
			u.open = recv
		} else {
			u.whole = recv
		}
	}
	return u
}

// wantDelivered reads what had arrived before the end, and then the end.
func (u *unreadStreams) wantDelivered(t *testing.T, isEnd func(error) bool) {
	t.Helper()
	select {
	case <-u.receiver.Context().Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the connection does not end")
	}
	if cause := context.Cause(u.receiver.Context()); !isEnd(cause) {
		t.Fatalf("the connection ended with %v", cause)
	}
	checkStream(t, u.whole, peer.Pattern(9000))
	got, err := io.ReadAll(u.open)
	if !bytes.Equal(got, peer.Pattern(5000)) || !isEnd(err) {
		t.Fatalf("read %d of 5000 bytes, then %v", len(got), err)
	}
	if n := u.barrier.ahead.Load(); n != 0 {
		t.Errorf("%d bytes count as spilled after all was read", n)
	}
}

// TestIdleTimeoutIsDrained lets connections time out with streams unread.
func TestIdleTimeoutIsDrained(t *testing.T) {
	for _, clientSends := range []bool{true, false} {
		t.Run(fmt.Sprintf("client sends %v", clientSends), func(t *testing.T) {
			u := leaveUnread(t, clientSends, 2*time.Second)
			u.sender.die()
			u.wantDelivered(t, func(err error) bool {
				var idle *quic.IdleTimeoutError
				return errors.As(err, &idle)
			})
			if n := u.counters.idle.bytes.Load(); n != 14_000 {
				t.Errorf("%d bytes counted, want 14000", n)
			}
		})
	}
}

// TestEndsLoseWithout shows what quic-go makes of unread streams at both ends when
// nothing is read ahead.
func TestEndsLoseWithout(t *testing.T) {
	for name, idle := range map[string]time.Duration{"idle timeout": 500 * time.Millisecond, "stateless reset": time.Minute} {
		t.Run(name, func(t *testing.T) {
			u := leaveUnread(t, true, idle)
			tokens := u.issued()
			u.barrier.stopIdleWatch()
			u.barrier.unwatchTokens()
			u.sender.die()
			if idle == time.Minute {
				u.provokeReset(t, tokens)
			}
			<-u.receiver.Context().Done()
			if got, err := io.ReadAll(u.whole); err == nil {
				t.Fatalf("quic-go delivers %d bytes after such an end now: the drain ahead may go", len(got))
			}
		})
	}
}

// provokeReset sends what a host does that has lost its state (RFC 9000 §10.3): for
// every token that the sender has issued, since it is not known here which quic-go
// has in use.
func (u *unreadStreams) provokeReset(t *testing.T, tokens []resetToken) {
	t.Helper()
	if len(tokens) == 0 {
		t.Fatal("no token was met")
	}
	s, err := net.Dial("udp", u.receiver.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for _, token := range tokens {
		datagram := append(bytes.Repeat([]byte{0x55}, 22), token[:]...)
		if _, err := s.Write(datagram); err != nil {
			t.Fatal(err)
		}
	}
}

// issued are the stateless reset tokens that the sender has issued.
func (u *unreadStreams) issued() []resetToken {
	u.barrier.mu.Lock()
	defer u.barrier.mu.Unlock()
	return slices.Clone(u.barrier.tokens)
}

// TestSilenceEndsNothing drains ahead of an idle timeout that does not come, since
// the connection goes on, and reads on as if nothing had been.
func TestSilenceEndsNothing(t *testing.T) {
	u := leaveUnread(t, true, time.Minute)
	u.barrier.drainAhead(&u.counters.idle)
	u.barrier.drainAhead(&u.counters.idle) // nothing is left to drain
	if n := u.counters.idle.drains.Load(); n != 1 {
		t.Errorf("%d drains", n)
	}
	if n := u.barrier.ahead.Load(); n != 14_000 {
		t.Errorf("%d bytes ahead, want 14000", n)
	}
	checkStream(t, u.whole, peer.Pattern(9000))
	u.open.CancelRead(0x10c)
	if n := u.barrier.ahead.Load(); n != 0 {
		t.Errorf("%d bytes ahead of a cancelled and a read stream", n)
	}
	u.barrier.ahead.Store(u.barrier.window)
	u.barrier.drainAhead(&u.counters.idle)
	if n := u.counters.idle.drains.Load(); n != 1 {
		t.Error("drained beyond the window")
	}
}

// TestIdleWatch has packets arrive all the time, so that nothing is drained although
// nobody reads, and then none, so that there is a drain, and one only.
func TestIdleWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 8 * time.Second
		counters := new(drainCounters)
		b := newBarrier(false, drainOptions{counters: counters}, &quic.Config{MaxIdleTimeout: timeout})
		b.conn = noStreams{}
		close(b.bound)
		defer func() { _ = b.Close() }()
		b.RecordEvent(qlog.ParametersSet{Initiator: qlog.InitiatorLocal, MaxIdleTimeout: time.Millisecond})
		b.RecordEvent(qlog.ParametersSet{Initiator: qlog.InitiatorRemote, MaxIdleTimeout: time.Hour})
		s := newFakeStream(0)
		b.adopt(s)
		off := int64(0)
		arrive := func() {
			b.RecordEvent(qlog.PacketReceived{Frames: []qlog.Frame{s.arrive(off, []byte("data"), false)}})
			off += 4
		}
		for range 100 {
			arrive()
			time.Sleep(timeout/idleTicks*(quietTicks-1) - timeout/idleTicks/2)
		}
		if n := counters.idle.drains.Load(); n != 0 {
			t.Errorf("%d drains of a busy connection", n)
		}
		for range 3 {
			arrive()
			time.Sleep(timeout - time.Millisecond) // quic-go would wait no longer
		}
		if drains, bytes := counters.idle.drains.Load(), counters.idle.bytes.Load(); drains != 3 || bytes != 412 {
			t.Errorf("%d drains of %d bytes in all after three silences, want 3 of 412", drains, bytes)
		}
		time.Sleep(10 * timeout)
		if n := counters.idle.drains.Load(); n != 3 {
			t.Errorf("%d drains, though nothing more has come", n)
		}
	})
}

// TestStatelessResetIsDrained has the sender's host forget the connection and send
// a stateless reset while streams are unread.
func TestStatelessResetIsDrained(t *testing.T) {
	for _, clientSends := range []bool{true, false} {
		t.Run(fmt.Sprintf("client sends %v", clientSends), func(t *testing.T) {
			u := leaveUnread(t, clientSends, time.Minute)
			u.sender.die()
			u.provokeReset(t, u.issued())
			u.wantDelivered(t, func(err error) bool {
				var reset *quic.StatelessResetError
				return errors.As(err, &reset)
			})
			if n := u.counters.reset.bytes.Load(); n != 14_000 {
				t.Errorf("%d bytes counted, want 14000", n)
			}
			if n := len(u.barrier.guard.tokens); n != 0 {
				t.Errorf("%d tokens are left in the guard", n)
			}
		})
	}
}

// TestReadAhead has streams read as they arrive, up to a limit, so that they survive
// an end that nobody sees coming: here our own.
func TestReadAhead(t *testing.T) {
	const limit = 6000
	opts := drainOptions{counters: new(drainCounters), readAhead: limit}
	u := leaveUnreadWith(t, true, time.Minute, opts)
	if n := u.barrier.ahead.Load(); n == 0 || n > 2*limit {
		t.Fatalf("%d bytes ahead on two streams", n)
	}
	_ = u.receiver.CloseWithError(0x102, "")
	got, err := io.ReadAll(u.open)
	var closed *quic.ApplicationError
	if !bytes.HasPrefix(peer.Pattern(5000), got) || len(got) == 0 || !errors.As(err, &closed) || closed.Remote {
		t.Fatalf("read %d bytes, then %v", len(got), err)
	}
	got, err = io.ReadAll(u.whole)
	if !bytes.HasPrefix(peer.Pattern(9000), got) || len(got) == 0 || len(got) > limit || !errors.As(err, &closed) {
		t.Fatalf("read %d bytes of the stream above the limit, then %v", len(got), err)
	}
	if n := u.barrier.ahead.Load(); n != 0 {
		t.Errorf("%d bytes count as spilled after all was read", n)
	}
}

// TestResetGuardForgets watches and forgets many tokens.
func TestResetGuardForgets(t *testing.T) {
	g := &resetGuard{tokens: make(map[resetToken]*barrier)}
	b := newBarrier(true, drainOptions{counters: new(drainCounters), guard: g}, nil)
	token := func(i int) resetToken { return resetToken{byte(i), byte(i >> 8), 1} }
	const last = 20_000
	for i := range last {
		b.watchToken(token(i))
		if tok := token(i); !g.mayHave(&tok) {
			t.Fatalf("token %d is not in the filter", i)
		}
	}
	if len(g.tokens) != maxTokens || len(b.tokens) != maxTokens {
		t.Errorf("%d tokens watched for one connection", len(g.tokens))
	}
	set := 0
	for i := range last {
		if tok := token(i); g.mayHave(&tok) {
			set++
		}
	}
	if set > 5000 {
		t.Errorf("%d bits are set for %d tokens", set, len(g.tokens))
	}
	b.unwatchTokens()
	if len(g.tokens) != 0 {
		t.Errorf("%d tokens after the end", len(g.tokens))
	}
}

// TestResetGuardLetsPass has datagrams that are no reset of a watched connection.
func TestResetGuardLetsPass(t *testing.T) {
	g := &resetGuard{tokens: make(map[resetToken]*barrier)}
	b := newBarrier(true, drainOptions{counters: new(drainCounters), guard: g}, nil)
	b.resets.Store(maxHeldResets) // no goroutine is started
	token := resetToken{7: 9}
	b.watchToken(token)
	datagram := func(first byte, body int, token resetToken) []byte {
		return append(append([]byte{first}, make([]byte, body)...), token[:]...)
	}
	other := resetToken{0, 0, 5}
	for name, tc := range map[string]struct {
		p    []byte
		pass bool
	}{
		"a reset":      {datagram(0x40, 4, token), false},
		"too short":    {datagram(0x40, 3, token), true},
		"long header":  {datagram(0xc0, 30, token), true},
		"no fixed bit": {datagram(0x00, 30, token), true},
		"other token":  {datagram(0x40, 30, other), true}, // the same first two bytes
		"empty":        {nil, true},
	} {
		if got := g.inspect(udp.Datagram{Payload: tc.p, From: &net.UDPAddr{}}); got != tc.pass {
			t.Errorf("%s: passes %v", name, got)
		}
	}
}

func BenchmarkResetGuardInspect(b *testing.B) {
	g := &resetGuard{tokens: make(map[resetToken]*barrier)}
	bar := newBarrier(true, drainOptions{counters: new(drainCounters), guard: g}, nil)
	bar.watchToken(resetToken{1})
	p := append([]byte{0x40}, bytes.Repeat([]byte{7}, 1251)...)
	from := &net.UDPAddr{}
	b.ReportAllocs()
	for b.Loop() {
		if !g.inspect(udp.Datagram{Payload: p, From: from}) {
			b.Fatal("kept back")
		}
	}
}
