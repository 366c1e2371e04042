package tailfin

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/h3frame"
	"github.com/tailfin-quic/tailfin/udp"
)

// An origin is one port over TCP and, if there is one, over UDP.
type origin struct {
	addr     string
	overHTTP atomic.Int32 // requests over HTTP/2 and HTTP/1.1
}

// newOrigin serves HTTP/2 at the port of addr, or at a free one.
func newOrigin(t *testing.T, addr, altSvc string) *origin {
	t.Helper()
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Skipf("the TCP port of the same number is taken: %v", err)
	}
	o := &origin{addr: ln.Addr().String()}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.overHTTP.Add(1)
		if altSvc != "" {
			w.Header().Set("Alt-Svc", strings.ReplaceAll(altSvc, "PORT", o.addr[strings.LastIndex(o.addr, ":")+1:]))
		}
		_, _ = io.WriteString(w, r.Proto+" ")
		_, _ = io.Copy(w, r.Body)
	}))
	_ = s.Listener.Close()
	s.Listener, s.EnableHTTP2 = ln, true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert(t)}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return o
}

// newFallback is a client that trusts the test's certificate in every version.
func newFallback(t *testing.T, f *Fallback) *Fallback {
	t.Helper()
	if f.HTTP3 == nil {
		f.HTTP3 = &Transport{}
	}
	newTransport(t, f.HTTP3)
	conf := clientTLS(t)
	conf.NextProtos = nil
	next := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}
	f.Next = next
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// recorder is an Observer that remembers.
type recorder struct {
	mu   sync.Mutex
	list []Outcome
	slow bool // some latency was nothing
}

func (r *recorder) Observe(_ string, o Outcome, latency time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, o)
	r.slow = r.slow || latency <= 0
}

// classes returns what was observed, as text.
func (r *recorder) classes() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var s []string
	for _, o := range r.list {
		s = append(s, o.Class.String())
	}
	r.list = nil
	return strings.Join(s, " ")
}

// serveBoth serves HTTP/3 at the origin's port too.
func serveBoth(t *testing.T, o *origin, h http.Handler) {
	t.Helper()
	conn, err := udp.Listen("udp", o.addr, udp.WithBackend(udp.Mmsg))
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Handler: h, TLSConfig: serverTLS(t), Logger: quietLog}
	done := make(chan error, 1)
	go func() { done <- s.Serve(conn) }()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
		_ = conn.Close()
	})
}

// TestFallbackLearns goes to HTTP/3 once it has been offered, and not before.
func TestFallbackLearns(t *testing.T) {
	o := newOrigin(t, "", `h3=":PORT"; ma=60`)
	serveBoth(t, o, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }))
	seen := &recorder{}
	f := newFallback(t, &Fallback{Observer: seen})
	for _, proto := range []string{"HTTP/2.0 ", "HTTP/3.0", "HTTP/3.0"} {
		body, err := fetchFrom(t.Context(), f, o.addr, "/")
		want(t, body, proto)
		want(t, err, nil)
	}
	want(t, seen.classes(), "success success success")
	want(t, seen.slow, false)
	known, _ := f.caps.Of(o.addr)
	want(t, known, Supported)
}

// TestFallbackTriesUnknown has nothing to go by.
func TestFallbackTriesUnknown(t *testing.T) {
	o := newOrigin(t, "", "")
	serveBoth(t, o, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }))
	body, err := fetchFrom(t.Context(), newFallback(t, &Fallback{TryUnknown: true}), o.addr, "/")
	want(t, body, "HTTP/3.0")
	want(t, err, nil)
	body, err = fetchFrom(t.Context(), newFallback(t, &Fallback{}), o.addr, "/")
	want(t, body, "HTTP/2.0 ")
	want(t, err, nil)
}

// TestFallbackAfterTransportFailure has an origin without HTTP/3 that offers it.
// The request changes over, with its body, and the next ones do not try.
func TestFallbackAfterTransportFailure(t *testing.T) {
	for _, tc := range []struct {
		name  string
		udp   func(t *testing.T, addr string)
		class string
	}{
		{"nobody answers", func(*testing.T, string) {}, "dial-timeout"},
		{"another protocol", func(t *testing.T, addr string) {
			other := serverTLS(t)
			other.NextProtos = []string{"other"}
			newRawPeer(t, rawPeerOptions{tls: other, socket: listenAt(t, addr)})
		}, "dial-handshake"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOrigin(t, "", `h3=":PORT"`)
			tc.udp(t, o.addr)
			clock := &fakeClock{time.Unix(1e9, 0)}
			seen := &recorder{}
			f := newFallback(t, &Fallback{
				HTTP3: &Transport{DialTimeout: 300 * time.Millisecond}, TryUnknown: true, Observer: seen,
				Capabilities: &Capabilities{Now: clock.now}, Breaker: &Breaker{Failures: 1},
			})
			post := func() string {
				// A body without GetBody, which nobody has read when the dial fails.
				body := &closeChecker{Reader: io.MultiReader(strings.NewReader("pay"))}
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+o.addr+"/", body)
				resp, err := f.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = resp.Body.Close() }()
				b, err := io.ReadAll(resp.Body)
				want(t, err, nil)
				eventually(t, "the body is closed", body.isClosed)
				return string(b)
			}
			want(t, post(), "HTTP/2.0 pay")
			want(t, seen.classes(), tc.class+" success")
			want(t, post(), "HTTP/2.0 pay")
			want(t, seen.classes(), "success") // and no second try, though HTTP/3 was offered again
			known, until := f.caps.Of(o.addr)
			want(t, known, Unsupported)
			want(t, until.Sub(clock.now()), DefaultUnsupportedFor)
			clock.advance(DefaultUnsupportedFor)
			want(t, post(), "HTTP/2.0 pay")
			want(t, seen.classes(), tc.class+" success")
			want(t, int(o.overHTTP.Load()), 3)
		})
	}
}

func listenAt(t *testing.T, addr string) *udp.Conn {
	t.Helper()
	conn, err := udp.Listen("udp", addr, udp.WithBackend(udp.Mmsg))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestFallbackKeepsHTTP3 has failures that are no reason to go elsewhere: the
// error is the caller's, HTTP/3 is kept, and HTTP/2 is not asked.
func TestFallbackKeepsHTTP3(t *testing.T) {
	for _, tc := range []struct {
		name   string
		method string
		answer func(c *rawPeerConn, s *quic.Stream)
		class  Class
		keeps  bool
		falls  bool // HTTP/2 has answered
	}{
		{"graceful close", http.MethodGet, closing(0x100), ClassGracefulClose, true, false},
		{"graceful close of a POST", http.MethodPost, closing(0x100), ClassGracefulClose, true, false},
		{"GOAWAY", http.MethodGet, func(c *rawPeerConn, s *quic.Stream) { c.goAway(0); <-s.Context().Done() }, ClassGoAway, true, false},
		{"rejected", http.MethodPost, resetting(0x10b), ClassResetRejected, true, false},
		{"reset", http.MethodGet, resetting(0x102), ClassResetOther, true, false},
		{"closed with an error", http.MethodGet, closing(0x102), ClassAppClose, true, false},
		{"malformed", http.MethodGet, func(_ *rawPeerConn, s *quic.Stream) { finish(s, data5) }, ClassFrameError, true, false},
		{"silent, POST", http.MethodPost, silent, ClassIdleTimeout, true, false},
		{"silent, GET", http.MethodGet, silent, ClassSuccess, true, true},
		{"cut short", http.MethodGet, func(c *rawPeerConn, s *quic.Stream) {
			_, _ = s.Write(of9)
			time.Sleep(30 * time.Millisecond)
			_ = c.CloseWithError(0x100, "")
		}, ClassTruncatedGraceful, false, false},
		{"cut short by a FIN", http.MethodGet, func(_ *rawPeerConn, s *quic.Stream) { finish(s, of9) }, ClassTruncatedFIN, true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t, "", "")
			newRawPeer(t, rawPeerOptions{socket: listenAt(t, o.addr), answer: func(c *rawPeerConn, s *quic.Stream) {
				requestBytes(s)
				tc.answer(c, s)
			}})
			seen := &recorder{}
			f := newFallback(t, &Fallback{HTTP3: &Transport{QUICConfig: shortIdle}, TryUnknown: true, Observer: seen})
			resp, err := f.RoundTrip(mustRequest(t, tc.method, "https://"+o.addr+"/"))
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				_ = resp.Body.Close()
			}
			want(t, OutcomeOf(err).Class, tc.class)
			want(t, o.overHTTP.Load() == 1, tc.falls)
			known, _ := f.caps.Of(o.addr)
			want(t, known != Unsupported, tc.keeps)
			if !tc.falls {
				want(t, seen.classes(), tc.class.String())
			}
		})
	}
}

// TestFallbackBreaker opens the circuit, and lets nothing through.
func TestFallbackBreaker(t *testing.T) {
	o := newOrigin(t, "", "")
	newRawPeer(t, rawPeerOptions{socket: listenAt(t, o.addr), answer: func(c *rawPeerConn, s *quic.Stream) {
		requestBytes(s)
		resetting(0x102)(c, s)
	}})
	f := newFallback(t, &Fallback{TryUnknown: true, Breaker: &Breaker{Failures: 2}})
	for range 2 {
		_, err := fetchFrom(t.Context(), f, o.addr, "/")
		wantAs[*StreamReset](t, err, nil)
	}
	body := &closeChecker{Reader: strings.NewReader("x")}
	req, _ := http.NewRequest(http.MethodPost, "https://"+o.addr+"/", body)
	if _, err := f.RoundTrip(req); !errors.Is(err, ErrCircuitOpen) {
		t.Fatalf("%v, want an open circuit", err)
	}
	want(t, body.isClosed(), true)
}

// TestFallbackObservesTheBody tells a body that was given up from one that was read.
func TestFallbackObservesTheBody(t *testing.T) {
	o := newOrigin(t, "", "")
	serveBoth(t, o, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(peer.Pattern(1 << 20)) }))
	seen := &recorder{}
	f := newFallback(t, &Fallback{TryUnknown: true, Observer: seen})
	resp, err := f.RoundTrip(mustRequest(t, http.MethodGet, "https://"+o.addr+"/"))
	if err != nil {
		t.Fatal(err)
	}
	want(t, seen.classes(), "") // not before its end
	_ = resp.Body.Close()
	want(t, seen.classes(), "cancelled")
	_ = resp.Body.Close()
	want(t, seen.classes(), "")
}

// TestFallbackZeroValue sends what HTTP/3 cannot carry, too.
func TestFallbackZeroValue(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }))
	defer s.Close()
	f := &Fallback{}
	c := &http.Client{Transport: f}
	resp, err := c.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	want(t, string(b), "HTTP/1.1")
	c.CloseIdleConnections()
	want(t, f.Close(), nil)
}

// TestClosingPeer has peers that answer one request on each connection and close
// it with H3_NO_ERROR. No request may fail, and none may go to HTTP/2.
func TestClosingPeer(t *testing.T) {
	requests := 100
	if text := os.Getenv("TAILFIN_CLOSING_REQUESTS"); text != "" { // 1000, for example
		var err error
		if requests, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	if testing.Short() {
		requests = 50
	}
	for _, tc := range []struct {
		name  string
		start func(t *testing.T) string
		http3 *Transport
	}{
		// The close comes in a packet behind the FIN, mostly in the same batch. Now and
		// then the next request has left before it is read, and nothing tells whether the
		// peer has got it: only a GET may be sent again, and only if that is asked for.
		{"no GOAWAY", xnetOneEach, &Transport{RetryIdempotent: true}},
		// With a GOAWAY ahead it is known, whatever the method.
		{"GOAWAY", quicOneEach, &Transport{}},
	} {
		for _, workers := range []int{1, 10} {
			t.Run(fmt.Sprintf("%s, %d at a time", tc.name, workers), func(t *testing.T) {
				addr := tc.start(t)
				o := newOrigin(t, addr, "")
				seen := &recorder{}
				f := newFallback(t, &Fallback{
					HTTP3:      &Transport{RetryIdempotent: tc.http3.RetryIdempotent},
					TryUnknown: true, Observer: seen, Breaker: &Breaker{Failures: 1},
				})
				method := http.MethodPost
				if tc.http3.RetryIdempotent {
					method = http.MethodGet
				}
				var next atomic.Int32
				var wg sync.WaitGroup
				for range workers {
					wg.Go(func() {
						for i := int(next.Add(1)); i <= requests; i = int(next.Add(1)) {
							size := i % 3000
							if err := wantPattern(t, f, method, addr, size); err != nil {
								t.Errorf("request %d: %v", i, err)
								return
							}
						}
					})
				}
				wg.Wait()
				want(t, o.overHTTP.Load(), 0)
				known, _ := f.caps.Of(addr)
				want(t, known, Supported)
				want(t, f.Breaker.State(addr).String(), "closed")
				classes := strings.Fields(seen.classes())
				want(t, len(classes), requests)
				for _, class := range classes {
					want(t, class, "success")
				}
			})
		}
	}
}

// wantPattern fetches so many bytes, and checks them.
func wantPattern(t *testing.T, tr http.RoundTripper, method, addr string, size int) error {
	resp, err := tr.RoundTrip(mustRequest(t, method, fmt.Sprintf("https://%s/bytes/%d", addr, size)))
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && string(body) != string(peer.Pattern(size)) {
		err = fmt.Errorf("%d bytes are not the %d that were asked for", len(body), size)
	}
	return err
}

// xnetOneEach is a server of golang.org/x/net/quic that closes 10 µs behind its
// FIN, and lets a client have one request at a time on a connection: others that
// were under way would be lost with it.
func xnetOneEach(t *testing.T) string {
	server, err := peer.ListenXNet("127.0.0.1:0", cert(t), peer.XNetOptions{CloseAfterResponse: true, MaxStreams: 1, Delay: 10 * time.Microsecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return server.Addr()
}

// quicOneEach is a quic-go server that sends GOAWAY with its answer, and closes
// when the packet with the FIN was packed.
func quicOneEach(t *testing.T) string {
	var counters drainCounters
	conf := drainOptions{counters: &counters}.install(&quic.Config{})
	return newRawPeer(t, rawPeerOptions{quic: conf, answer: func(c *rawPeerConn, s *quic.Stream) {
		if s.StreamID() != 0 {
			return // behind the GOAWAY
		}
		path, err := requestHeadOf(s)
		if err != nil {
			return
		}
		var size int
		_, _ = fmt.Sscanf(path, "/bytes/%d", &size)
		c.goAway(uint64(s.StreamID()) + 4)
		sent := c.QlogTrace().(*barrier).watchEnd(s.StreamID())
		finish(s, head(200), h3frame.AppendData(nil, peer.Pattern(size)))
		select {
		case <-sent:
		case <-c.Context().Done():
		}
		_ = c.CloseWithError(0x100, "")
	}}).addr
}

// requestHeadOf reads a request and returns its path.
func requestHeadOf(s *quic.Stream) (string, error) {
	src := requestSource(s)
	defer src.release()
	ev, err := src.next()
	if err != nil {
		return "", err
	}
	path := ev.Request.Path
	for err == nil {
		_, err = src.next()
	}
	return path, nil
}

// requestSource reads the request on a stream of a raw peer.
func requestSource(s *quic.Stream) *messageSource {
	return newMessageSource(newRecvStream(s, new(atomic.Int64), nil), h3frame.NewRequestDecoder(h3frame.Limits{}))
}
