package tailfin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// TestExpectContinueClient has a client that waits for leave to send its body.
func TestExpectContinueClient(t *testing.T) {
	const soon, never = 20 * time.Millisecond, time.Minute
	for _, tc := range []struct {
		name    string
		timeout time.Duration
		handler http.HandlerFunc
		status  int
		read    bool // the body was asked for
		traced  bool // 100 Continue was met
	}{
		{"100 Continue", never, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }, 200, true, true},
		{"refused", never, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusExpectationFailed) }, 417, false, false},
		{"no word of it", soon, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK) // so that reading sends no 100 Continue
			_, _ = io.Copy(w, r.Body)
		}, 200, true, false},
		{"accepted without a word", never, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			_, _ = io.Copy(w, r.Body)
		}, 200, true, false},
		{"does not wait", 0, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }, 200, true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			addr := startServer(t, &Server{Handler: tc.handler})
			tr := newTransport(t, &Transport{ExpectContinueTimeout: tc.timeout})
			body := &closeChecker{Reader: strings.NewReader("body")}
			traced := make(chan struct{}, 1)
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() { traced <- struct{}{} }})
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+addr+"/", body)
			req.Header.Set("Expect", "100-continue")
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			want(t, resp.StatusCode, tc.status)
			want(t, string(got) == "body", tc.read)
			want(t, len(traced) == 1, tc.traced)
			eventually(t, "the body is closed", body.isClosed)
		})
	}
}

// TestResponseHeaderTimeout has a peer that takes a request and says nothing.
func TestResponseHeaderTimeout(t *testing.T) {
	reset := make(chan error, 1)
	peer := newRawPeer(t, rawPeerOptions{answer: func(_ *rawPeerConn, s *quic.Stream) {
		requestBytes(s)
		<-s.Context().Done() // the client wants no answer any more
		reset <- context.Cause(s.Context())
	}})
	tr := newTransport(t, &Transport{ResponseHeaderTimeout: 30 * time.Millisecond})
	_, err := fetchFrom(t.Context(), tr, peer.addr, "/")
	wantAs(t, err, func(e *HeaderTimeout) bool { return e.Phase == PhaseHeaders && e.Timeout() && !e.RetrySafe })
	wantAs(t, <-reset, func(e *quic.StreamError) bool {
		return e.Remote && h3frame.ErrorCode(e.ErrorCode) == h3frame.ErrCodeRequestCancelled
	})
	want(t, tr.poolSize(), 1) // the connection goes on
}

// TestSlowBodyIsNoHeaderTimeout has the timeout begin when the request is sent.
func TestSlowBodyIsNoHeaderTimeout(t *testing.T) {
	addr := startServer(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })})
	tr := newTransport(t, &Transport{ResponseHeaderTimeout: 100 * time.Millisecond})
	pr, pw := io.Pipe()
	time.AfterFunc(300*time.Millisecond, func() {
		_, _ = io.WriteString(pw, "late")
		_ = pw.Close()
	})
	req, _ := http.NewRequest(http.MethodPost, "https://"+addr+"/", pr)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	want(t, string(b), "late")
	want(t, err, nil)
}

// TestInterimResponses has 1xx responses that are reported, and too many of them.
func TestInterimResponses(t *testing.T) {
	for _, tc := range []struct {
		n  int
		ok bool
	}{{0, true}, {maxInterim, true}, {maxInterim + 1, false}} {
		t.Run(fmt.Sprint(tc.n), func(t *testing.T) {
			peer := newRawPeer(t, rawPeerOptions{answer: func(_ *rawPeerConn, s *quic.Stream) {
				requestBytes(s)
				for range tc.n {
					_, _ = s.Write(head(103, "Link", "</a>"))
				}
				finish(s, reply("ok"))
			}})
			hints := 0
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				if code == 103 && h.Get("Link") == "</a>" {
					hints++
				}
				return nil
			}})
			_, err := fetchFrom(ctx, newTransport(t, &Transport{}), peer.addr, "/")
			want(t, hints, min(tc.n, maxInterim))
			if tc.ok {
				want(t, err, nil)
				return
			}
			wantAs(t, err, func(e *FrameError) bool { return e.Code == h3frame.ErrCodeExcessiveLoad && e.Phase == PhaseHeaders })
		})
	}
}

// TestInterimHookRefuses has a hook that ends the request.
func TestInterimHookRefuses(t *testing.T) {
	peer := newRawPeer(t, rawPeerOptions{answer: func(_ *rawPeerConn, s *quic.Stream) {
		requestBytes(s)
		finish(s, head(103), reply("ok"))
	}})
	enough := errors.New("enough")
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error { return enough }})
	if _, err := fetchFrom(ctx, newTransport(t, &Transport{}), peer.addr, "/"); !errors.Is(err, enough) {
		t.Fatalf("%v, want the hook's error", err)
	}
}

// TestPeersFieldSectionLimit has a peer that takes small header sections only: a
// larger one never leaves.
func TestPeersFieldSectionLimit(t *testing.T) {
	const limit = 300
	opened := make(chan quic.StreamID, 10)
	peer := newRawPeer(t, rawPeerOptions{
		settings: h3frame.Settings{MaxFieldSectionSize: h3frame.SettingValue(limit)},
		answer: func(_ *rawPeerConn, s *quic.Stream) {
			opened <- s.StreamID()
			requestBytes(s)
			finish(s, reply("ok"))
		},
	})
	tr := newTransport(t, &Transport{DisableCompression: true})
	if _, err := fetchFrom(t.Context(), tr, peer.addr, "/"); err != nil {
		t.Fatal(err)
	}
	<-connOf(tr).h3.settingsSeen
	send := func(size int) error {
		req, _ := http.NewRequest(http.MethodGet, "https://"+peer.addr+"/", nil)
		try, err := tr.newTry(req)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Pad", strings.Repeat("x", size-int(try.need.fieldsSize)-len("x-pad")-32))
		resp, err := tr.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
	want(t, send(limit), nil)
	err := send(limit + 1)
	wantAs(t, err, func(e *RequestError) bool { return e.Phase == PhaseBeforeWire && !e.RetrySafe })
	wantAs(t, err, func(e *FieldSectionError) bool { return e.Size == limit+1 && e.Limit == limit })
	want(t, len(opened), 2)
}

// TestRequestIsSentAgain has a peer that rejects a request once.
func TestRequestIsSentAgain(t *testing.T) {
	for _, tc := range []struct {
		name string
		body func() (io.Reader, func() (io.ReadCloser, error))
		ok   bool
	}{
		{"no body", func() (io.Reader, func() (io.ReadCloser, error)) { return nil, nil }, true},
		{"GetBody", func() (io.Reader, func() (io.ReadCloser, error)) {
			return strings.NewReader("again"), func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("again")), nil }
		}, true},
		{"once only", func() (io.Reader, func() (io.ReadCloser, error)) {
			return io.MultiReader(strings.NewReader("once")), nil
		}, false},
		{"GetBody fails", func() (io.Reader, func() (io.ReadCloser, error)) {
			return strings.NewReader("x"), func() (io.ReadCloser, error) { return nil, errors.New("gone") }
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tries := make(chan string, 10)
			peer := newRawPeer(t, rawPeerOptions{answer: func(_ *rawPeerConn, s *quic.Stream) {
				b := requestBytes(s)
				tries <- string(b)
				if len(tries) == 1 {
					s.CancelWrite(quic.StreamErrorCode(h3frame.ErrCodeRequestRejected))
					return
				}
				finish(s, reply("ok"))
			}})
			tr := newTransport(t, &Transport{})
			body, getBody := tc.body()
			req, _ := http.NewRequest(http.MethodPost, "https://"+peer.addr+"/", body)
			req.GetBody = getBody
			resp, err := tr.RoundTrip(req)
			if !tc.ok {
				wantAs(t, err, func(e *StreamReset) bool { return e.RetrySafe && e.Code == uint64(h3frame.ErrCodeRequestRejected) })
				want(t, len(tries), 1)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			want(t, len(tries), 2)
			if a, b := <-tries, <-tries; a != b {
				t.Errorf("sent %q, then %q", a, b)
			}
		})
	}
}

// TestTriesEnd has a peer that rejects every request.
func TestTriesEnd(t *testing.T) {
	var tries = make(chan struct{}, 100)
	peer := newRawPeer(t, rawPeerOptions{answer: func(_ *rawPeerConn, s *quic.Stream) {
		tries <- struct{}{}
		s.CancelRead(quic.StreamErrorCode(h3frame.ErrCodeRequestRejected))
		s.CancelWrite(quic.StreamErrorCode(h3frame.ErrCodeRequestRejected))
	}})
	_, err := fetchFrom(t.Context(), newTransport(t, &Transport{}), peer.addr, "/")
	wantAs(t, err, func(e *StreamReset) bool { return e.RetrySafe })
	want(t, len(tries), maxTries)
}

// TestRetryIdempotent has a peer that closes before it answers, at first.
func TestRetryIdempotent(t *testing.T) {
	for _, tc := range []struct {
		method string
		retry  bool
		tries  int
	}{{"GET", false, 1}, {"GET", true, 2}, {"POST", true, 1}} {
		t.Run(fmt.Sprint(tc.method, tc.retry), func(t *testing.T) {
			tries := make(chan struct{}, 10)
			peer := newRawPeer(t, rawPeerOptions{answer: func(c *rawPeerConn, s *quic.Stream) {
				requestBytes(s)
				tries <- struct{}{}
				if len(tries) == 1 {
					_ = c.CloseWithError(0x100, "")
					return
				}
				finish(s, reply("ok"))
			}})
			tr := newTransport(t, &Transport{RetryIdempotent: tc.retry})
			req, _ := http.NewRequest(tc.method, "https://"+peer.addr+"/", nil)
			resp, err := tr.RoundTrip(req)
			if err == nil {
				_ = resp.Body.Close()
			} else {
				wantAs(t, err, func(e *GracefulClose) bool { return e.Phase == PhaseHeaders && !e.RetrySafe })
			}
			want(t, err == nil, tc.tries == 2)
			want(t, len(tries), tc.tries)
		})
	}
}

// TestTrailers go both ways, with a quic-go/http3 server.
func TestTrailers(t *testing.T) {
	addr := stockServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Echo")
		_, _ = io.Copy(w, r.Body)
		w.Header().Set("X-Echo", r.Trailer.Get("X-Sum"))
	}))
	req, _ := http.NewRequest(http.MethodPost, "https://"+addr+"/", nil)
	req.Trailer = http.Header{"X-Sum": nil}
	req.Body = io.NopCloser(io.MultiReader(strings.NewReader("body"), readerFunc(func([]byte) (int, error) {
		req.Trailer.Set("X-Sum", "4") // known at the end only
		return 0, io.EOF
	})))
	resp, err := client(t, &Transport{}).Transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, announced := resp.Trailer["X-Echo"]; !announced {
		t.Errorf("the trailer was not announced: %v", resp.Trailer)
	}
	b, err := io.ReadAll(resp.Body)
	want(t, string(b), "body")
	want(t, err, nil)
	want(t, resp.Trailer.Get("X-Echo"), "4")
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestContentLengthIsHeld has bodies that are not as long as they say.
func TestContentLengthIsHeld(t *testing.T) {
	addr := startServer(t, &Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })})
	tr := newTransport(t, &Transport{})
	for _, size := range []int64{3, 5} {
		req, _ := http.NewRequest(http.MethodPost, "https://"+addr+"/", io.MultiReader(strings.NewReader("body")))
		req.ContentLength = size
		_, err := tr.RoundTrip(req)
		wantAs[*RequestBodyError](t, err, nil)
	}
}

// TestCancelBeforeDial has a context that has ended already.
func TestCancelBeforeDial(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("shutting down")
	cancel(why)
	tr := newTransport(t, &Transport{})
	body := &closeChecker{Reader: strings.NewReader("x")}
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "https://127.0.0.1:1/", body)
	_, err := tr.RoundTrip(req)
	wantAs(t, err, func(e *Cancelled) bool { return errors.Is(e, why) && e.Phase == PhaseBeforeWire })
	want(t, body.isClosed(), true)
	if tr.socket != nil {
		t.Error("a request that was given up has opened a socket")
	}
}

// TestMaxResponseHeaderBytes has a response with more header than is taken: it
// fails, and the connection goes on.
func TestMaxResponseHeaderBytes(t *testing.T) {
	peer := newRawPeer(t, rawPeerOptions{answer: func(_ *rawPeerConn, s *quic.Stream) {
		requestBytes(s)
		if s.StreamID() == 0 {
			finish(s, head(200, "X-Pad", strings.Repeat("x", 2000)))
			return
		}
		finish(s, reply("ok"))
	}})
	tr := newTransport(t, &Transport{MaxResponseHeaderBytes: 1000})
	_, err := fetchFrom(t.Context(), tr, peer.addr, "/")
	wantAs(t, err, func(e *FrameError) bool { return e.Code == h3frame.ErrCodeExcessiveLoad && e.Phase == PhaseHeaders })
	body, err := fetchFrom(t.Context(), tr, peer.addr, "/")
	want(t, body, "ok")
	want(t, err, nil)
	want(t, len(peer.conns), 1)
}

// TestCancelDuringUpload has a body that waits for its writer when the context ends.
func TestCancelDuringUpload(t *testing.T) {
	arrived := make(chan struct{}, 1)
	ended := make(chan error, 1)
	peer := newRawPeer(t, rawPeerOptions{answer: func(_ *rawPeerConn, s *quic.Stream) {
		_, err := s.Read(make([]byte, 1))
		arrived <- struct{}{}
		for err == nil {
			_, err = s.Read(make([]byte, 1000))
		}
		ended <- err
	}})
	ctx, cancel := context.WithCancel(t.Context())
	pr, pw := io.Pipe()
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+peer.addr+"/", pr)
	go func() {
		<-arrived
		cancel()
	}()
	_, err := newTransport(t, &Transport{}).RoundTrip(req)
	wantAs(t, err, func(e *Cancelled) bool { return e.Phase == PhaseHeaders && errors.Is(e, context.Canceled) })
	wantAs(t, <-ended, func(e *quic.StreamError) bool {
		return h3frame.ErrorCode(e.ErrorCode) == h3frame.ErrCodeRequestCancelled
	})
	if _, err := pw.Write([]byte("more")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the body was not closed: %v", err)
	}
}
