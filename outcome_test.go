package tailfin

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/quic-go/quic-go"
	xquic "golang.org/x/net/quic"

	"github.com/tailfin-quic/tailfin/h3frame"
	"github.com/tailfin-quic/tailfin/udp"
)

// TestOutcomes has every row of the table from a peer that makes it happen.
func TestOutcomes(t *testing.T) {
	for _, row := range OutcomeTable() {
		t.Run(row.Class.String()+"/"+row.Phase.String(), func(t *testing.T) {
			t.Parallel()
			end := endings[outcomeKey{row.Class, row.Phase}]
			if end == nil {
				t.Fatal("no peer makes this happen")
			}
			err := end(t)
			if diff := cmp.Diff(row, OutcomeOf(err)); diff != "" {
				t.Fatalf("%v\n%s", err, diff)
			}
			if p, ok := ProgressOf(err); ok && p.RetrySafe != row.RetrySafe {
				t.Errorf("the error says retry safe: %t", p.RetrySafe)
			}
		})
	}
	want(t, len(endings), len(outcomeTable))
	// What no row is for keeps HTTP/3 and promises nothing.
	want(t, OutcomeOf(&GracefulClose{Progress: Progress{Phase: PhaseComplete}}),
		Outcome{Class: ClassGracefulClose, Phase: PhaseComplete, Breaker: Failure})
}

// An ending makes a request end in one way, and returns its error.
type ending = func(t *testing.T) error

// once sends one request, without another try, and reads its answer.
func once(t *testing.T, tr *Transport, req *http.Request) error {
	try, err := tr.newTry(req)
	if err != nil {
		return err
	}
	defer try.stopBody()
	resp, err := newTransport(t, tr).once(try)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.ReadAll(resp.Body)
	return err
}

// answered is how a request ends at a peer with the given answer.
func answered(answer func(c *rawPeerConn, s *quic.Stream)) ending {
	return func(t *testing.T) error {
		peer := newRawPeer(t, rawPeerOptions{answer: func(c *rawPeerConn, s *quic.Stream) {
			requestBytes(s)
			answer(c, s)
		}})
		return once(t, &Transport{TLSClientConfig: clientTLS(t)}, mustRequest(t, http.MethodGet, "https://"+peer.addr+"/"))
	}
}

// parts is an answer that the peer breaks off by end, once the bytes have arrived.
func parts(end func(c *rawPeerConn, s *quic.Stream), b ...[]byte) ending {
	return answered(func(c *rawPeerConn, s *quic.Stream) {
		if len(b) > 0 {
			_, _ = s.Write(bytes.Join(b, nil))
			time.Sleep(30 * time.Millisecond)
		}
		end(c, s)
	})
}

func closing(code quic.ApplicationErrorCode) func(*rawPeerConn, *quic.Stream) {
	return func(c *rawPeerConn, _ *quic.Stream) { _ = c.CloseWithError(code, "") }
}

func resetting(code h3frame.ErrorCode) func(*rawPeerConn, *quic.Stream) {
	return func(_ *rawPeerConn, s *quic.Stream) { s.CancelWrite(quic.StreamErrorCode(code)) }
}

// silent is a peer that says no more.
func silent(c *rawPeerConn, _ *quic.Stream) { <-c.Context().Done() }

// waiting is how a request ends that waits for a stream when the peer acts.
func waiting(conf *quic.Config, act func(c *rawPeerConn)) ending {
	return func(t *testing.T) error {
		arrived := make(chan *rawPeerConn, 1)
		peer := newRawPeer(t, rawPeerOptions{quic: &quic.Config{MaxIncomingStreams: 1}, answer: func(c *rawPeerConn, s *quic.Stream) {
			requestBytes(s)
			arrived <- c
			<-s.Context().Done()
		}})
		return waitForStream(t, &Transport{QUICConfig: conf}, peer.addr, func() { act(<-arrived) })
	}
}

// waitForStream occupies the only stream that the peer at addr allows, waits for
// another, and has the peer act.
func waitForStream(t *testing.T, tr *Transport, addr string, act func()) error {
	newTransport(t, tr)
	req := mustRequest(t, http.MethodGet, "https://"+addr+"/").WithContext(t.Context())
	if tr.QUICConfig == keepTalking {
		req.Method, req.Body = http.MethodPost, io.NopCloser(dribble)
	}
	go func() {
		if resp, err := tr.RoundTrip(req); err == nil {
			_ = resp.Body.Close()
		}
	}()
	eventually(t, "the first request is under way", func() bool { c := connOf(tr); return c != nil && c.carried.Load() })
	c := connOf(tr)
	acted := make(chan struct{})
	go func() {
		defer close(acted)
		act()
	}()
	defer func() { <-acted }() // what it makes is cleaned up with the test
	if !c.reserve(0) {
		return errors.New("the connection takes no more requests")
	}
	defer c.release()
	_, err := c.open(t.Context(), streamNeed{})
	return err
}

// xnetPeer is a server of golang.org/x/net/quic that sends b on the first request
// stream and closes with a QUIC error code, which quic-go cannot be made to.
func xnetPeer(t *testing.T, b []byte, hold <-chan struct{}) string {
	tlsConf := serverTLS(t)
	tlsConf.MinVersion = tls.VersionTLS13
	endpoint, err := xquic.Listen("udp", "127.0.0.1:0", &xquic.Config{MaxBidiRemoteStreams: 1, TLSConfig: tlsConf})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := endpoint.Accept(ctx)
		if err != nil {
			return
		}
		for {
			str, err := conn.AcceptStream(ctx)
			if err != nil {
				return
			}
			if str.IsReadOnly() {
				continue
			}
			if hold != nil {
				<-hold
			} else if _, err := io.ReadAll(str); err != nil {
				return
			}
			_, _ = str.Write(b)
			_ = str.Flush()
			time.Sleep(30 * time.Millisecond)
			conn.Abort(errors.New("out of order")) // APPLICATION_ERROR or INTERNAL_ERROR of QUIC
		}
	}()
	t.Cleanup(func() {
		stop()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = endpoint.Close(ctx)
		<-done
	})
	return endpoint.LocalAddr().String()
}

func transportClosed(b []byte) ending {
	return func(t *testing.T) error {
		addr := xnetPeer(t, b, nil)
		return once(t, &Transport{TLSClientConfig: clientTLS(t)}, mustRequest(t, http.MethodGet, "https://"+addr+"/"))
	}
}

// lossOfState is a peer that answers with b and is gone, and another in its place
// that knows nothing of the connection (RFC 9000 §10.3).
type lossOfState struct {
	peer  *rawPeer
	again func()
}

func newLossOfState(t *testing.T, conf *quic.Config, b []byte, arrived chan<- struct{}) *lossOfState {
	key := quic.StatelessResetKey{1, 2, 3}
	l := &lossOfState{}
	l.peer = newRawPeer(t, rawPeerOptions{resetKey: &key, quic: conf, answer: func(c *rawPeerConn, s *quic.Stream) {
		_, _ = s.Write(b)
		arrived <- struct{}{}
		<-c.Context().Done()
	}})
	l.again = func() {
		_ = l.peer.tr.Close() // without a word to the client
		l.peer.stop()
		socket, err := udp.Listen("udp", l.peer.addr, udp.WithBackend(udp.Mmsg))
		if err != nil {
			t.Error(err)
			return
		}
		newRawPeer(t, rawPeerOptions{resetKey: &key, socket: socket})
	}
	return l
}

// dribble is a body without end that makes a client speak up, so that it learns of a
// peer that is gone. quic-go (v0.65.0) resets in answer to packets of more than 42 bytes
// only, and so not to a PING.
var dribble = readerFunc(func(p []byte) (int, error) {
	time.Sleep(20 * time.Millisecond)
	return min(len(p), 100), nil
})

// keepTalking is a client whose first request has that body; see waitForStream.
var keepTalking = &quic.Config{}

func stateLost(b []byte) ending {
	return func(t *testing.T) error {
		arrived := make(chan struct{}, 1)
		l := newLossOfState(t, nil, b, arrived)
		var again sync.WaitGroup
		again.Go(func() {
			<-arrived
			time.Sleep(30 * time.Millisecond)
			l.again()
		})
		defer again.Wait()
		req := mustRequest(t, http.MethodPost, "https://"+l.peer.addr+"/")
		req.Body = io.NopCloser(dribble)
		return once(t, &Transport{}, req)
	}
}

// idle is a client that gives up on a silent peer soon.
func idle(b []byte) ending {
	return func(t *testing.T) error {
		peer := newRawPeer(t, rawPeerOptions{answer: func(c *rawPeerConn, s *quic.Stream) {
			_, _ = s.Write(b)
			silent(c, s)
		}})
		return once(t, &Transport{QUICConfig: shortIdle, TLSClientConfig: clientTLS(t)}, mustRequest(t, http.MethodGet, "https://"+peer.addr+"/"))
	}
}

var shortIdle = &quic.Config{MaxIdleTimeout: 300 * time.Millisecond}

// silentAddr is an address where nobody answers.
func silentAddr(t *testing.T) string {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	return socket.LocalAddr().String()
}

// givenUp is how a request ends whose caller gives it up for a reason, at a peer
// that has answered with b.
func givenUp(why error, b []byte) ending {
	return func(t *testing.T) error {
		arrived := make(chan struct{}, 1)
		peer := newRawPeer(t, rawPeerOptions{answer: func(c *rawPeerConn, s *quic.Stream) {
			_, _ = s.Write(b)
			arrived <- struct{}{}
			silent(c, s)
		}})
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		tr := newTransport(t, &Transport{})
		try, err := tr.newTry(mustRequest(t, http.MethodGet, "https://"+peer.addr+"/").WithContext(ctx))
		if err != nil {
			return err
		}
		if b == nil {
			go func() {
				<-arrived
				cancel(why)
			}()
			_, err = tr.once(try)
			return err
		}
		resp, err := tr.once(try)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		cancel(why)
		_, err = io.ReadAll(resp.Body)
		return err
	}
}

func dialing(conf func(t *testing.T) (addr string, tr *Transport)) ending {
	return func(t *testing.T) error {
		addr, tr := conf(t)
		return once(t, tr, mustRequest(t, http.MethodGet, "https://"+addr+"/"))
	}
}

var (
	started = head(200)
	data5   = h3frame.AppendData(nil, []byte("hello"))
	of9     = append(head(200, "Content-Length", "9"), data5...)
)

var endings = map[outcomeKey]ending{
	{ClassSuccess, PhaseComplete}: parts(func(_ *rawPeerConn, s *quic.Stream) { _ = s.Close() }, started, data5),

	{ClassGracefulClose, PhaseBeforeWire}: waiting(nil, func(c *rawPeerConn) { _ = c.CloseWithError(0x100, "") }),
	{ClassGracefulClose, PhaseHeaders}:    parts(closing(0x100)),
	{ClassGoAway, PhaseBeforeWire}:        waiting(nil, func(c *rawPeerConn) { c.goAway(4) }),
	{ClassGoAway, PhaseHeaders}: parts(func(c *rawPeerConn, s *quic.Stream) {
		c.goAway(0)
		<-s.Context().Done()
	}),

	{ClassAppClose, PhaseBeforeWire}: waiting(nil, func(c *rawPeerConn) { _ = c.CloseWithError(0x102, "") }),
	{ClassAppClose, PhaseHeaders}:    parts(closing(0x102)),
	{ClassAppClose, PhaseBody}:       parts(closing(0x102), started, data5),
	{ClassTransportClose, PhaseBeforeWire}: func(t *testing.T) error {
		hold := make(chan struct{})
		return waitForStream(t, &Transport{}, xnetPeer(t, nil, hold), func() { close(hold) })
	},
	{ClassTransportClose, PhaseHeaders}: transportClosed(nil),
	{ClassTransportClose, PhaseBody}:    transportClosed(started),

	{ClassResetRejected, PhaseHeaders}:  parts(resetting(h3frame.ErrCodeRequestRejected)),
	{ClassResetRejected, PhaseBody}:     parts(resetting(h3frame.ErrCodeRequestRejected), started, data5),
	{ClassResetCancelled, PhaseHeaders}: parts(resetting(h3frame.ErrCodeRequestCancelled)),
	{ClassResetCancelled, PhaseBody}:    parts(resetting(h3frame.ErrCodeRequestCancelled), started, data5),
	{ClassResetOther, PhaseHeaders}:     parts(resetting(h3frame.ErrCodeInternal)),
	{ClassResetOther, PhaseBody}:        parts(resetting(h3frame.ErrCodeInternal), started, data5),

	{ClassTruncatedGraceful, PhaseBody}: parts(closing(0x100), of9),
	{ClassTruncatedError, PhaseBody}:    parts(closing(0x102), of9),
	{ClassTruncatedFIN, PhaseBody}:      parts(func(_ *rawPeerConn, s *quic.Stream) { _ = s.Close() }, of9),

	{ClassFrameError, PhaseHeaders}: parts(func(_ *rawPeerConn, s *quic.Stream) { finish(s, data5) }),
	{ClassFrameError, PhaseBody}:    parts(func(_ *rawPeerConn, s *quic.Stream) { finish(s, data5[:4]) }, started),

	{ClassIdleTimeout, PhaseBeforeWire}: waiting(shortIdle, func(*rawPeerConn) {}),
	{ClassIdleTimeout, PhaseHeaders}:    idle(nil),
	{ClassIdleTimeout, PhaseBody}:       idle(started),
	{ClassStatelessReset, PhaseBeforeWire}: func(t *testing.T) error {
		arrived := make(chan struct{}, 1)
		l := newLossOfState(t, &quic.Config{MaxIncomingStreams: 1}, nil, arrived)
		return waitForStream(t, &Transport{QUICConfig: keepTalking}, l.peer.addr, func() {
			<-arrived
			l.again()
		})
	},
	{ClassStatelessReset, PhaseHeaders}: stateLost(nil),
	{ClassStatelessReset, PhaseBody}:    stateLost(started),
	{ClassHeaderTimeout, PhaseHeaders}: func(t *testing.T) error {
		peer := newRawPeer(t, rawPeerOptions{answer: silent})
		return once(t, &Transport{ResponseHeaderTimeout: 100 * time.Millisecond}, mustRequest(t, http.MethodGet, "https://"+peer.addr+"/"))
	},

	{ClassDialRefused, PhaseBeforeWire}: dialing(func(t *testing.T) (string, *Transport) {
		peer := newRawPeer(t, rawPeerOptions{quic: &quic.Config{GetConfigForClient: func(*quic.ClientInfo) (*quic.Config, error) {
			return nil, errors.New("full")
		}}})
		return peer.addr, &Transport{}
	}),
	{ClassDialHandshake, PhaseBeforeWire}: dialing(func(t *testing.T) (string, *Transport) {
		other := serverTLS(t)
		other.NextProtos = []string{"other"}
		return newRawPeer(t, rawPeerOptions{tls: other}).addr, &Transport{}
	}),
	{ClassDialTimeout, PhaseBeforeWire}: dialing(func(t *testing.T) (string, *Transport) {
		return silentAddr(t), &Transport{DialTimeout: 200 * time.Millisecond}
	}),
	{ClassDialOther, PhaseBeforeWire}: dialing(func(*testing.T) (string, *Transport) {
		return "no-such-host.invalid", &Transport{}
	}),
	{ClassEarlyRejected, PhaseBeforeWire}: func(t *testing.T) error {
		tickets := serverTLS(t)
		tickets.SetSessionTicketKeys([][32]byte{{7}})
		first := earlyPeer(t, rawPeerOptions{tls: tickets})
		tr := earlyTransport(t)
		if _, err := fetchFrom(t.Context(), tr, first.addr, "/"); err != nil {
			return err
		}
		leave(t, tr)
		second := earlyPeer(t, rawPeerOptions{tls: tickets, quic: &quic.Config{InitialStreamReceiveWindow: 1 << 10, MaxIncomingStreams: 5}})
		return once(t, tr, mustRequest(t, http.MethodGet, "https://"+second.addr+"/"))
	},

	{ClassCancelled, PhaseBeforeWire}: func(t *testing.T) error {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(30*time.Millisecond, cancel)
		return once(t, &Transport{}, mustRequest(t, http.MethodGet, "https://"+silentAddr(t)+"/").WithContext(ctx))
	},
	{ClassCancelled, PhaseHeaders}: givenUp(nil, nil),
	{ClassCancelled, PhaseBody}:    givenUp(nil, started),
	{ClassDeadline, PhaseBeforeWire}: func(t *testing.T) error {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		return once(t, &Transport{}, mustRequest(t, http.MethodGet, "https://"+silentAddr(t)+"/").WithContext(ctx))
	},
	{ClassDeadline, PhaseHeaders}: givenUp(context.DeadlineExceeded, nil),
	{ClassDeadline, PhaseBody}:    givenUp(context.DeadlineExceeded, started),

	{ClassRequestBody, PhaseBeforeWire}: func(t *testing.T) error {
		// The run loop stands still while the body fails.
		peer := newRawPeer(t, rawPeerOptions{answer: silent})
		hold := newLoopHold()
		defer hold.release()
		tr := newTransport(t, &Transport{QUICConfig: &quic.Config{Tracer: hold.tracer, KeepAlivePeriod: 20 * time.Millisecond}})
		first := make(chan struct{})
		go func() {
			defer close(first)
			_, _ = fetchFrom(t.Context(), tr, peer.addr, "/")
		}()
		defer func() {
			hold.release()
			_ = tr.Close()
			<-first
		}()
		eventually(t, "a request is under way", func() bool { c := connOf(tr); return c != nil && c.carried.Load() })
		hold.arm(func() bool { return true })
		<-hold.held
		req := mustRequest(t, http.MethodPost, "https://"+peer.addr+"/")
		req.Body = io.NopCloser(&failingReader{errors.New("disk on fire")})
		return once(t, tr, req)
	},
	{ClassRequestBody, PhaseHeaders}: func(t *testing.T) error {
		peer := newRawPeer(t, rawPeerOptions{answer: func(_ *rawPeerConn, s *quic.Stream) { requestBytes(s) }})
		req := mustRequest(t, http.MethodPost, "https://"+peer.addr+"/")
		req.Body = io.NopCloser(io.MultiReader(bytes.NewReader(make([]byte, 200_000)), &failingReader{errors.New("disk on fire")}))
		return once(t, &Transport{}, req)
	},
	{ClassRequest, PhaseBeforeWire}: func(t *testing.T) error {
		req := mustRequest(t, http.MethodGet, "https://example.com/")
		req.Header.Set("X-Bad", "a\nb")
		return once(t, &Transport{}, req)
	},
	{ClassOther, PhaseBeforeWire}: func(t *testing.T) error {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := ln.Addr().String()
		_ = ln.Close()
		_, err = (&http.Transport{}).RoundTrip(mustRequest(t, http.MethodGet, "https://"+addr+"/"))
		return err
	},
}

// TestOutcomeNames keeps logs readable.
func TestOutcomeNames(t *testing.T) {
	seen := make(map[string]bool)
	for c := range Class(classes) {
		if s := c.String(); s == "" || seen[s] {
			t.Errorf("class %d is called %q", c, s)
		} else {
			seen[s] = true
		}
	}
	want(t, Class(-1).String(), "class(-1)")
	want(t, fmt.Sprint(Success, Failure, Ignored, Verdict(9)), "success failure ignored verdict(9)")
}

// TestOutcomeOfWrapped has errors as http.Client wraps them, and EOFs.
func TestOutcomeOfWrapped(t *testing.T) {
	wrapped := fmt.Errorf("Get: %w", &DialError{Progress: Progress{RetrySafe: true}, Err: ErrDialTimeout})
	want(t, OutcomeOf(wrapped).Class, ClassDialTimeout)
	want(t, OutcomeOf(io.EOF).Class, ClassSuccess)
	want(t, OutcomeOf(nil).Class, ClassSuccess)
	want(t, OutcomeOf(fmt.Errorf("lost: %w", io.EOF)).Class, ClassOther)
	want(t, OutcomeOf(ErrBodyClosed).Class, ClassCancelled)
	want(t, OutcomeOf(context.DeadlineExceeded).Class, ClassDeadline)
	want(t, OutcomeOf(context.Canceled).RetrySafe, false)
	if !strings.Contains(ErrDialTimeout.Error(), "dial timeout") || !errors.Is(ErrDialTimeout, ErrDialTimeout) {
		t.Error(ErrDialTimeout)
	}
}

// TestResetCutsBodyShort has a body with a Content-Length whose stream the peer
// resets: it is cut short, and the outcome is that of the reset, which says nothing
// against HTTP/3.
func TestResetCutsBodyShort(t *testing.T) {
	err := parts(resetting(h3frame.ErrCodeInternal), of9)(t)
	wantAs(t, err, func(e *Truncated) bool { return e.Got == 5 && e.Want == 9 })
	o := OutcomeOf(err)
	if o.Class != ClassResetOther || o.Phase != PhaseBody || o.MarksUnsupported || o.Breaker != Failure {
		t.Errorf("%+v", o)
	}
}
