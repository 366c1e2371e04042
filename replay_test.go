package tailfin

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/bench/peer"
)

// roundTripper is an http.RoundTripper made of a function.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func postBody(t *testing.T, body io.Reader) *http.Request {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://localhost/", io.NopCloser(body))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// TestReplay reads bodies in part, has them again, and reads them to their end.
func TestReplay(t *testing.T) {
	const kept = 100
	for _, tc := range []struct {
		name        string
		size, first int // of the body, and what the first try reads
		total       int
		again       bool
	}{
		{"nothing read", 50, 0, 0, true},
		{"part", 50, 20, 0, true},
		{"whole", 50, 50, 0, true},
		{"part of a long one", 500, 20, 0, true},
		{"all that is kept", 500, kept, 0, true},
		{"more than is kept", 500, kept + 1, 0, false},
		{"no room in all", 50, 20, 10, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sent := peer.Pattern(tc.size)
			src := &closeChecker{Reader: iotest.OneByteReader(bytes.NewReader(sent))}
			r := &Replay{PerRequest: kept, Total: tc.total, Next: roundTripper(func(req *http.Request) (*http.Response, error) {
				first := make([]byte, tc.first)
				_, err := io.ReadFull(req.Body, first)
				want(t, err, nil)
				want(t, string(first), string(sent[:tc.first]))
				body := req.Body
				again, err := req.GetBody()
				want(t, err == nil, tc.again)
				if tc.again {
					_ = req.Body.Close()
					if _, err := body.Read(make([]byte, 1)); !errors.Is(err, ErrBodyClosed) {
						t.Errorf("the try before reads on: %v", err)
					}
					body, sent = again, peer.Pattern(tc.size)
				} else {
					sent = sent[tc.first:]
				}
				want(t, src.isClosed(), false)
				rest, err := io.ReadAll(body)
				want(t, err, nil)
				want(t, bytes.Equal(rest, sent), true)
				return nil, body.Close()
			})}
			req := postBody(t, nil)
			req.Body = src
			_, err := r.RoundTrip(req)
			want(t, err, nil)
			want(t, src.isClosed(), true)
			want(t, r.Held(), int64(0))
		})
	}
}

// TestReplayGoesOn has a body that is read on after the response has begun.
func TestReplayGoesOn(t *testing.T) {
	src := &closeChecker{Reader: strings.NewReader("head and tail")}
	var body io.ReadCloser
	r := &Replay{Next: roundTripper(func(req *http.Request) (*http.Response, error) {
		_, _ = io.ReadFull(req.Body, make([]byte, 5))
		body, _ = req.GetBody()
		return &http.Response{}, nil
	})}
	req := postBody(t, nil)
	req.Body = src
	resp, err := r.RoundTrip(req)
	want(t, err, nil)
	want(t, resp.Request, req)
	want(t, r.Held(), int64(5))
	b, err := io.ReadAll(body)
	want(t, string(b), "head and tail")
	want(t, err, nil)
	want(t, r.Held(), int64(0))
	want(t, src.isClosed(), false)
	_ = body.Close()
	want(t, src.isClosed(), true)
}

// TestReplayReadsOnce has a try that waits in a Read while the next one begins: what
// comes must be the next one's.
func TestReplayReadsOnce(t *testing.T) {
	in, out := io.Pipe()
	r := &Replay{Next: roundTripper(func(req *http.Request) (*http.Response, error) {
		go func() { _, _ = out.Write([]byte("one ")) }()
		b := make([]byte, 4)
		_, _ = io.ReadFull(req.Body, b)
		waits := make(chan error, 1)
		go func() {
			_, err := req.Body.Read(make([]byte, 100))
			waits <- err
		}()
		again, err := req.GetBody()
		want(t, err, nil)
		go func() {
			_, _ = out.Write([]byte("two"))
			_ = out.Close()
		}()
		got, err := io.ReadAll(again)
		want(t, string(got), "one two")
		want(t, err, nil)
		<-waits
		return nil, errors.New("given up")
	})}
	req := postBody(t, nil)
	req.Body = in
	_, err := r.RoundTrip(req)
	want(t, err != nil, true)
}

// TestReplayOverTransport has a peer that refuses the first request once it has its
// body, and takes the next.
func TestReplayOverTransport(t *testing.T) {
	first := true
	got := make(chan int, 2)
	p := newRawPeer(t, rawPeerOptions{answer: func(c *rawPeerConn, s *quic.Stream) {
		got <- len(requestBytes(s))
		if first {
			first = false
			resetting(0x10b)(c, s)
			return
		}
		finish(s, reply("taken"))
	}})
	r := &Replay{Next: newTransport(t, &Transport{})}
	req := postBody(t, bytes.NewReader(peer.Pattern(20_000)))
	req.URL.Host = p.addr
	resp, err := r.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	want(t, string(b), "taken")
	want(t, <-got, <-got)
	eventually(t, "what was kept is let go", func() bool { return r.Held() == 0 })
}
