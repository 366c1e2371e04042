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
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
	"github.com/tailfin-quic/tailfin/udp"
)

// A rawServer answers each request stream as a test says, byte by byte.
func rawServer(t *testing.T, answer func(conn *quic.Conn, str *quic.Stream)) string {
	t.Helper()
	socket, err := udp.Listen("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tr := &quic.Transport{Conn: socket}
	ln, err := tr.Listen(serverTLS(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept(context.Background())
			if err != nil {
				return
			}
			wg.Go(func() {
				for {
					str, err := conn.AcceptStream(context.Background())
					if err != nil {
						return
					}
					wg.Go(func() {
						_, _ = io.Copy(io.Discard, str)
						answer(conn, str)
					})
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		_ = tr.Close()
		_ = socket.Close()
		wg.Wait()
	})
	return socket.LocalAddr().String()
}

// head is an encoded response header section.
func head(status int, fields ...string) []byte {
	h := http.Header{}
	for i := 0; i+1 < len(fields); i += 2 {
		h.Add(fields[i], fields[i+1])
	}
	section := h3frame.AppendFieldSection(nil, h3frame.ResponseFields(h3frame.ResponseHead{Status: status, Header: h}))
	return h3frame.AppendHeaders(nil, section)
}

func TestResponseErrors(t *testing.T) {
	finish := func(str *quic.Stream, parts ...[]byte) {
		_, _ = str.Write(bytes.Join(parts, nil))
		_ = str.Close()
	}
	// closeAfter lets the bytes arrive before it closes.
	closeAfter := func(conn *quic.Conn, str *quic.Stream, code quic.ApplicationErrorCode, parts ...[]byte) {
		_, _ = str.Write(bytes.Join(parts, nil))
		time.Sleep(50 * time.Millisecond)
		_ = conn.CloseWithError(code, "")
	}
	data := h3frame.AppendData(nil, []byte("hello"))
	for _, tc := range []struct {
		name   string
		answer func(*quic.Conn, *quic.Stream)
		body   string
		check  func(t *testing.T, err error)
	}{
		{"whole", func(_ *quic.Conn, s *quic.Stream) { finish(s, head(200), data) }, "hello", nil},
		{"length met, no FIN, graceful close", func(c *quic.Conn, s *quic.Stream) {
			closeAfter(c, s, 0x100, head(200, "Content-Length", "5"), data)
		}, "hello", nil},
		{"no length, no FIN, graceful close", func(c *quic.Conn, s *quic.Stream) {
			closeAfter(c, s, 0x100, head(200), data)
		}, "hello", func(t *testing.T, err error) {
			wantAs[*Truncated](t, err, func(e *Truncated) bool { return e.Got == 5 && e.Want == -1 && e.Phase == PhaseBody })
			wantAs[*GracefulClose](t, err, nil)
		}},
		{"length not met, graceful close", func(c *quic.Conn, s *quic.Stream) {
			closeAfter(c, s, 0x100, head(200, "Content-Length", "9"), data)
		}, "hello", func(t *testing.T, err error) {
			wantAs[*Truncated](t, err, func(e *Truncated) bool { return e.Got == 5 && e.Want == 9 && !e.RetrySafe })
		}},
		{"length not met, FIN", func(_ *quic.Conn, s *quic.Stream) {
			finish(s, head(200, "Content-Length", "9"), data)
		}, "hello", func(t *testing.T, err error) {
			wantAs[*Truncated](t, err, func(e *Truncated) bool { return e.Got == 5 && e.Want == 9 && e.FINSeen })
		}},
		{"length exceeded", func(_ *quic.Conn, s *quic.Stream) {
			finish(s, head(200, "Content-Length", "3"), data)
		}, "hel", func(t *testing.T, err error) {
			wantAs[*FrameError](t, err, func(e *FrameError) bool { return e.Code == h3frame.ErrCodeMessage })
		}},
		{"part of a DATA frame, close with an error", func(c *quic.Conn, s *quic.Stream) {
			closeAfter(c, s, 0x102, head(200), data[:len(data)-2])
		}, "hel", func(t *testing.T, err error) {
			wantAs[*ConnClosed](t, err, func(e *ConnClosed) bool { return e.Code == 0x102 && e.Remote && e.Application && e.Delivered == 3 })
			wantAs[*h3frame.TruncatedError](t, err, nil)
		}},
		{"part of a DATA frame, FIN", func(_ *quic.Conn, s *quic.Stream) {
			finish(s, head(200), data[:len(data)-2])
		}, "hel", func(t *testing.T, err error) {
			wantAs[*FrameError](t, err, func(e *FrameError) bool { return e.Code == h3frame.ErrCodeFrame })
		}},
		{"reset in the body", func(_ *quic.Conn, s *quic.Stream) {
			_, _ = s.Write(head(200))
			time.Sleep(50 * time.Millisecond)
			s.CancelWrite(0x102)
		}, "", func(t *testing.T, err error) {
			wantAs[*StreamReset](t, err, func(e *StreamReset) bool { return e.Code == 0x102 && e.Remote && e.Phase == PhaseBody })
		}},
		{"close before headers", func(c *quic.Conn, _ *quic.Stream) { _ = c.CloseWithError(0x100, "") }, "",
			func(t *testing.T, err error) {
				wantAs[*GracefulClose](t, err, func(e *GracefulClose) bool { return e.Phase == PhaseHeaders && !e.RetrySafe })
			}},
		{"close within the headers", func(c *quic.Conn, s *quic.Stream) {
			closeAfter(c, s, 0x100, head(200, "X-Long", strings.Repeat("x", 100))[:20])
		}, "", func(t *testing.T, err error) {
			wantAs[*GracefulClose](t, err, func(e *GracefulClose) bool { return e.Phase == PhaseHeaders })
			wantAs[*h3frame.TruncatedError](t, err, nil)
		}},
		{"FIN before headers", func(_ *quic.Conn, s *quic.Stream) { _ = s.Close() }, "", func(t *testing.T, err error) {
			wantAs[*FrameError](t, err, func(e *FrameError) bool { return e.Code == h3frame.ErrCodeMessage })
		}},
		{"DATA before headers", func(_ *quic.Conn, s *quic.Stream) { finish(s, data) }, "", func(t *testing.T, err error) {
			wantAs[*FrameError](t, err, func(e *FrameError) bool { return e.Code == h3frame.ErrCodeFrameUnexpected })
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			addr := rawServer(t, tc.answer)
			tr := newTransport(t, &Transport{})
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+addr+"/", nil)
			resp, err := tr.RoundTrip(req)
			var body []byte
			if err == nil {
				defer func() { _ = resp.Body.Close() }()
				body, err = io.ReadAll(resp.Body)
				if _, again := resp.Body.Read(make([]byte, 1)); !errors.Is(again, err) && err != nil {
					t.Errorf("the error is not sticky: %v, then %v", err, again)
				}
			}
			if string(body) != tc.body {
				t.Errorf("body %q, want %q", body, tc.body)
			}
			if tc.check == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil {
				t.Fatal("no error")
			}
			tc.check(t, err)
		})
	}
}

// wantAs checks that err is or wraps an E for which ok holds.
func wantAs[E error](t *testing.T, err error, ok func(E) bool) {
	t.Helper()
	var e E
	if !errors.As(err, &e) {
		t.Fatalf("%v (%T) does not wrap %T", err, err, e)
	}
	if ok != nil && !ok(e) {
		t.Fatalf("%+v", e)
	}
}

func TestDialErrors(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	server := startServer(t, &Server{Handler: http.NotFoundHandler()})
	for name, tc := range map[string]struct {
		addr string
		tls  *tls.Config
	}{
		"nobody answers":      {silent.LocalAddr().String(), nil},
		"no such host":        {"no-such-host.invalid:443", nil},
		"unknown certificate": {server, &tls.Config{}},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTransport(t, &Transport{DialTimeout: 300 * time.Millisecond, TLSClientConfig: tc.tls})
			req, _ := http.NewRequest(http.MethodGet, "https://"+tc.addr+"/", nil)
			_, err := tr.RoundTrip(req)
			wantAs(t, err, func(e *DialError) bool { return e.RetrySafe && e.Phase == PhaseBeforeWire && e.Addr == tc.addr })
		})
	}
}

func TestCancel(t *testing.T) {
	inHandler := make(chan struct{}, 1)
	ended := make(chan error, 1)
	addr := startServer(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
		}
		inHandler <- struct{}{}
		<-r.Context().Done()
		ended <- context.Cause(r.Context())
	})})
	tr := newTransport(t, &Transport{})
	for _, path := range []string{"/headers", "/body"} {
		t.Run(path, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+addr+path, nil)
			go func() {
				<-inHandler
				cancel()
			}()
			resp, err := tr.RoundTrip(req)
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				_ = resp.Body.Close()
			}
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("%v, want context.Canceled", err)
			}
			// The server's handler learns of it.
			wantAs[*StreamReset](t, <-ended, func(e *StreamReset) bool { return e.Code == uint64(h3frame.ErrCodeRequestCancelled) })
		})
	}
}

func TestConnectionsAreShared(t *testing.T) {
	var conns sync.Map
	addr := startServer(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conns.Store(r.RemoteAddr, true)
		_, _ = io.WriteString(w, r.URL.Path)
	})})
	// One socket has one address, so count connections by dials.
	var dials atomic.Int32
	tlsConf := clientTLS(t)
	tlsConf.VerifyConnection = func(tls.ConnectionState) error { dials.Add(1); return nil }
	c := client(t, &Transport{TLSClientConfig: tlsConf})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			resp, err := c.Get(fmt.Sprintf("https://%s/%d", addr, i))
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = resp.Body.Close() }()
			if body, err := io.ReadAll(resp.Body); err != nil || string(body) != fmt.Sprintf("/%d", i) {
				t.Errorf("%q, %v", body, err)
			}
		})
	}
	wg.Wait()
	if n := dials.Load(); n != 1 {
		t.Fatalf("%d connections for one authority", n)
	}
}

// TestRedialsAfterClose has a server that closes the idle connection: the next
// request must not fail.
func TestRedialsAfterClose(t *testing.T) {
	var closeConn atomic.Pointer[quic.Conn]
	addr := rawServer(t, func(c *quic.Conn, s *quic.Stream) {
		closeConn.Store(c)
		_, _ = s.Write(append(head(200), h3frame.AppendData(nil, []byte("ok"))...))
		_ = s.Close()
	})
	tr := newTransport(t, &Transport{})
	c := &http.Client{Transport: tr, Timeout: 30 * time.Second}
	allClosed := func() bool {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		for c := range tr.conns {
			if c.h3.quic.Context().Err() == nil {
				return false
			}
		}
		return true
	}
	for range 5 {
		resp, err := c.Post("https://"+addr+"/", "text/plain", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "ok" {
			t.Fatalf("%q, %v", body, err)
		}
		_ = resp.Body.Close()
		_ = closeConn.Load().CloseWithError(0x100, "")
		eventually(t, "the close is here before the next request is sent", allClosed)
	}
}

func TestBadRequests(t *testing.T) {
	tr := newTransport(t, &Transport{})
	for _, tc := range []struct{ url, want string }{
		{"http://127.0.0.1/", "https"},
		{"/relative", "absolute"},
		{"https://127.0.0.1:0/", "port"},
	} {
		req, err := http.NewRequest(http.MethodPost, tc.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		body := &closeChecker{Reader: strings.NewReader("x")}
		req.Body = body
		if _, err := tr.RoundTrip(req); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want an error that says %q", tc.url, err, tc.want)
		}
		if !body.isClosed() {
			t.Errorf("%s: the body was not closed", tc.url)
		}
	}
	_ = tr.Close()
	req, _ := http.NewRequest(http.MethodGet, "https://127.0.0.1:1/", nil)
	if _, err := tr.RoundTrip(req); !errors.Is(err, ErrTransportClosed) {
		t.Errorf("after Close: %v", err)
	}
}

type closeChecker struct {
	io.Reader
	mu     sync.Mutex
	closed bool
}

func (c *closeChecker) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}

func (c *closeChecker) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// TestRequestBodyFails has a body that ends badly: the request fails with its
// error, and the server does not take what it got for the whole.
func TestRequestBodyFails(t *testing.T) {
	serverErr := make(chan error, 1)
	addr := startServer(t, &Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		serverErr <- err
	})})
	tr := newTransport(t, &Transport{})
	broken := errors.New("disk on fire")
	body := io.NopCloser(io.MultiReader(bytes.NewReader(make([]byte, 100_000)), &failingReader{broken}))
	req, _ := http.NewRequest(http.MethodPut, "https://"+addr+"/", body)
	if _, err := tr.RoundTrip(req); !errors.Is(err, broken) {
		t.Fatalf("%v, want the error of the body", err)
	}
	wantAs[*StreamReset](t, <-serverErr, nil)
}

type failingReader struct{ err error }

func (r *failingReader) Read([]byte) (int, error) { return 0, r.err }

// TestAnswerBeforeTheRequestEnds has a body that never ends, and a server that
// does not want it: the body is closed, and nothing is left behind (goleak).
func TestAnswerBeforeTheRequestEnds(t *testing.T) {
	addr := startServer(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "no need")
	})})
	tr := newTransport(t, &Transport{})
	for _, read := range []bool{true, false} { // to its end, or closed without a look
		pr, pw := io.Pipe()
		req, _ := http.NewRequest(http.MethodPost, "https://"+addr+"/", pr)
		go func() { _, _ = pw.Write([]byte("first")) }()
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if read {
			if body, err := io.ReadAll(resp.Body); string(body) != "no need" || err != nil {
				t.Fatalf("%q, %v", body, err)
			}
		}
		_ = resp.Body.Close()
		if _, err := pw.Write([]byte("more")); !errors.Is(err, io.ErrClosedPipe) {
			t.Fatalf("the body was not closed: %v", err)
		}
	}
}
