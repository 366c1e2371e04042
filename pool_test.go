package tailfin

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// fetchFrom sends a GET and reads its answer.
func fetchFrom(ctx context.Context, tr http.RoundTripper, addr, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+addr+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// TestDialOutlivesItsCaller has two requests that share a dial, and the one that
// began it gives up.
func TestDialOutlivesItsCaller(t *testing.T) {
	peer := newRawPeer(t, rawPeerOptions{answer: func(_ *rawPeerConn, s *quic.Stream) {
		requestBytes(s)
		finish(s, reply("ok"))
	}})
	dialing, release := make(chan struct{}), make(chan struct{})
	dials := 0
	tr := newTransport(t, &Transport{Dial: func(ctx context.Context, addr string, tlsConf *tls.Config, conf *quic.Config) (*quic.Conn, error) {
		dials++
		close(dialing)
		<-release
		return quic.DialAddr(ctx, addr, tlsConf, conf)
	}})
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := fetchFrom(ctx, tr, peer.addr, "/")
		first <- err
	}()
	<-dialing
	go func() {
		_, err := fetchFrom(t.Context(), tr, peer.addr, "/")
		second <- err
	}()
	cancel()
	err := <-first
	wantAs(t, err, func(e *Cancelled) bool { return e.Phase == PhaseBeforeWire && errors.Is(e, context.Canceled) })
	close(release)
	if err := <-second; err != nil {
		t.Fatal(err)
	}
	want(t, dials, 1)
}

// TestStreamLimit has a peer that allows one request at a time.
func TestStreamLimit(t *testing.T) {
	for _, tc := range []struct {
		name      string
		maxConns  int
		wantConns int
	}{{"waits", 0, 1}, {"a second connection", 2, 2}} {
		t.Run(tc.name, func(t *testing.T) {
			started, release := make(chan struct{}, 3), make(chan struct{})
			peer := newRawPeer(t, rawPeerOptions{quic: &quic.Config{MaxIncomingStreams: 1}, answer: func(_ *rawPeerConn, s *quic.Stream) {
				requestBytes(s)
				started <- struct{}{}
				<-release
				finish(s, reply("ok"))
			}})
			tr := newTransport(t, &Transport{MaxConnsPerHost: tc.maxConns})
			results := make(chan error, 2)
			for range 2 {
				go func() {
					_, err := fetchFrom(t.Context(), tr, peer.addr, "/")
					results <- err
				}()
			}
			for range tc.wantConns {
				<-started
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err := fetchFrom(ctx, tr, peer.addr, "/")
			wantAs(t, err, func(e *Cancelled) bool { return e.Phase == PhaseBeforeWire && e.Timeout() })
			close(release)
			for range 2 {
				if err := <-results; err != nil {
					t.Error(err)
				}
			}
			want(t, len(peer.conns), tc.wantConns)
		})
	}
}

// TestGoAway has two requests under way when a GOAWAY covers the second: the
// first finishes where it is, the second goes to a new connection.
func TestGoAway(t *testing.T) {
	arrived, release := make(chan *rawPeerConn, 3), make(chan struct{})
	var mu sync.Mutex
	var served []quic.StreamID
	peer := newRawPeer(t, rawPeerOptions{answer: func(c *rawPeerConn, s *quic.Stream) {
		if _, err := io.ReadAll(s); err != nil {
			return // taken back
		}
		arrived <- c
		<-release
		mu.Lock()
		served = append(served, s.StreamID())
		mu.Unlock()
		finish(s, reply("ok"))
	}})
	tr := newTransport(t, &Transport{})
	results := make(chan error, 2)
	post := func() {
		// Not idempotent: only what the GOAWAY says makes it safe to send again.
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+peer.addr+"/", strings.NewReader("x"))
		resp, err := tr.RoundTrip(req)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
		}
		results <- err
	}
	go post()
	c := <-arrived
	go post()
	<-arrived
	c.goAway(4)
	third := <-arrived // the second again
	if third == c {
		t.Error("a request was sent on a connection after its GOAWAY")
	}
	close(release)
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	<-c.Context().Done() // closed by us, after its last request
	var closed *quic.ApplicationError
	if err := context.Cause(c.Context()); !errors.As(err, &closed) || closed.ErrorCode != 0x100 {
		t.Errorf("closed with %v, want H3_NO_ERROR", err)
	}
	want(t, len(peer.conns), 2)
}

// TestConnectionsLeave has the ways in which an idle connection goes.
func TestConnectionsLeave(t *testing.T) {
	answer := func(_ *rawPeerConn, s *quic.Stream) {
		requestBytes(s)
		finish(s, reply("ok"))
	}
	for _, tc := range []struct {
		name string
		idle time.Duration
		act  func(*Transport, *rawPeerConn)
		ours bool // we close it
	}{
		{"IdleConnTimeout", 20 * time.Millisecond, nil, true},
		{"CloseIdleConnections", 0, func(tr *Transport, _ *rawPeerConn) { tr.CloseIdleConnections() }, true},
		{"GOAWAY", 0, func(_ *Transport, c *rawPeerConn) { c.goAway(4) }, true},
		{"closed by the peer", 0, func(_ *Transport, c *rawPeerConn) { _ = c.CloseWithError(0x100, "") }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			peer := newRawPeer(t, rawPeerOptions{answer: answer})
			tr := newTransport(t, &Transport{IdleConnTimeout: tc.idle})
			if _, err := fetchFrom(t.Context(), tr, peer.addr, "/"); err != nil {
				t.Fatal(err)
			}
			c := <-peer.conns
			if tc.act != nil {
				want(t, tr.poolSize(), 1)
				tc.act(tr, c)
			}
			<-c.Context().Done()
			var closed *quic.ApplicationError
			if err := context.Cause(c.Context()); !errors.As(err, &closed) || closed.ErrorCode != 0x100 || closed.Remote != tc.ours {
				t.Errorf("closed with %v", err)
			}
			eventually(t, "the connection leaves the pool", func() bool { return tr.poolSize() == 0 })
			if _, err := fetchFrom(t.Context(), tr, peer.addr, "/"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCloseIdleConnectionsSparesWork closes a busy connection only after its request.
func TestCloseIdleConnectionsSparesWork(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	peer := newRawPeer(t, rawPeerOptions{answer: func(_ *rawPeerConn, s *quic.Stream) {
		requestBytes(s)
		close(arrived)
		<-release
		finish(s, reply("whole"))
	}})
	tr := newTransport(t, &Transport{})
	result := make(chan string, 1)
	go func() {
		body, _ := fetchFrom(t.Context(), tr, peer.addr, "/")
		result <- body
	}()
	<-arrived
	tr.CloseIdleConnections()
	close(release)
	want(t, <-result, "whole")
	<-(<-peer.conns).Context().Done()
}

// resolverFunc is a Resolver.
type resolverFunc func(host string) ([]netip.Addr, error)

func (f resolverFunc) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	return f(host)
}

// TestAddressesAreRaced has a first address that nobody answers on.
func TestAddressesAreRaced(t *testing.T) {
	peer := newRawPeer(t, rawPeerOptions{answer: func(_ *rawPeerConn, s *quic.Stream) {
		requestBytes(s)
		finish(s, reply("ok"))
	}})
	_, port, _ := net.SplitHostPort(peer.addr)
	tr := newTransport(t, &Transport{Resolver: resolverFunc(func(host string) ([]netip.Addr, error) {
		if host != "localhost" {
			return nil, errors.New("asked for " + host)
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")}, nil
	})})
	var mu sync.Mutex
	var tried []string
	var first, second time.Time
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{ConnectStart: func(_, addr string) {
		mu.Lock()
		defer mu.Unlock()
		if tried = append(tried, addr); len(tried) == 1 {
			first = time.Now()
		} else {
			second = time.Now()
		}
	}})
	if _, err := fetchFrom(ctx, tr, "localhost:"+port, "/"); err != nil {
		t.Fatal(err)
	}
	want(t, strings.Join(tried, " "), "127.0.0.2:"+port+" 127.0.0.1:"+port)
	// The hook of the first may be called a moment after the delay has begun.
	if d := second.Sub(first); d < attemptDelay*9/10 {
		t.Errorf("the second address was tried after %v, want about %v at least", d, attemptDelay)
	}
}

func TestInterleave(t *testing.T) {
	parse := func(s string) (ips []netip.Addr) {
		for a := range strings.FieldsSeq(s) {
			ips = append(ips, netip.MustParseAddr(a))
		}
		return ips
	}
	for _, tc := range []struct{ in, want string }{
		{"::1 ::2 ::3 10.0.0.1 10.0.0.2", "::1 10.0.0.1 ::2 10.0.0.2 ::3"},
		{"10.0.0.1 ::1 ::2", "10.0.0.1 ::1 ::2"},
		{"::ffff:10.0.0.1 10.0.0.2", "10.0.0.1 10.0.0.2"},
	} {
		var got []string
		for _, ip := range interleave(parse(tc.in)) {
			got = append(got, ip.String())
		}
		want(t, strings.Join(got, " "), tc.want)
	}
}

// TestUntouchedBodyGoesAgain has a request with a body that cannot be had twice,
// which waits for a stream when the peer closes: nothing was read of the body, and
// so it goes over the next connection.
func TestUntouchedBodyGoesAgain(t *testing.T) {
	arrived, first := make(chan *rawPeerConn, 2), make(chan struct{})
	peer := newRawPeer(t, rawPeerOptions{quic: &quic.Config{MaxIncomingStreams: 1}, answer: func(c *rawPeerConn, s *quic.Stream) {
		b := requestBytes(s)
		arrived <- c
		select {
		case <-first:
			finish(s, head(200), h3frame.AppendData(nil, b[len(b)-4:]))
		case <-c.Context().Done():
		}
	}})
	tr := newTransport(t, &Transport{})
	go func() { _, _ = fetchFrom(t.Context(), tr, peer.addr, "/") }()
	c := <-arrived
	result := make(chan string, 1)
	body := &closeChecker{Reader: strings.NewReader("once")}
	go func() {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+peer.addr+"/", body)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			result <- err.Error()
			return
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		result <- string(b)
	}()
	eventually(t, "the second request waits", func() bool { return connOf(tr).load() == 2 })
	close(first)
	_ = c.CloseWithError(0x100, "")
	want(t, <-result, "once")
	want(t, body.isClosed(), true)
}

// connOf returns the one connection of a transport.
func connOf(tr *Transport) *clientConn {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for c := range tr.conns {
		return c
	}
	return nil
}
