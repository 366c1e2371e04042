package tailfin

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/h3frame"
)

func zipped(b []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, _ = w.Write(b)
	_ = w.Close()
	return buf.Bytes()
}

// TestGzip has what net/http does about gzip.
func TestGzip(t *testing.T) {
	text := peer.Pattern(100_000)
	addr := startServer(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Accept", r.Header.Get("Accept-Encoding"))
		if r.URL.Path == "/empty" {
			w.Header().Set("Content-Encoding", "gzip")
			w.Header().Set("Content-Length", "0")
			return
		}
		if r.URL.Path == "/plain" || r.Header.Get("Accept-Encoding") == "" {
			_, _ = w.Write(text)
			return
		}
		z := zipped(text)
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Length", fmt.Sprint(len(z)))
		_, _ = w.Write(z)
	})})
	for _, tc := range []struct {
		name     string
		path     string
		header   http.Header
		method   string
		disabled bool
		accept   string
		undone   bool
		raw      bool // the body is as the server sent it, compressed
	}{
		{name: "asked for and undone", accept: "gzip", undone: true},
		{name: "asked for, not used", path: "/plain", accept: "gzip"},
		{name: "empty", path: "/empty", accept: "gzip"},
		{name: "asked for by the caller", header: http.Header{"Accept-Encoding": {"gzip"}}, accept: "gzip", raw: true},
		{name: "range", header: http.Header{"Range": {"bytes=0-9"}}},
		{name: "disabled", disabled: true},
		{name: "HEAD", method: http.MethodHead},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr := newTransport(t, &Transport{DisableCompression: tc.disabled})
			req, _ := http.NewRequest(tc.method, "https://"+addr+"/"+tc.path, nil)
			req.URL.Path = tc.path
			if tc.header != nil {
				req.Header = tc.header
			}
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			body, err := io.ReadAll(resp.Body)
			want(t, err, nil)
			want(t, resp.Header.Get("X-Accept"), tc.accept)
			want(t, resp.Uncompressed, tc.undone)
			switch {
			case tc.raw:
				want(t, bytes.Equal(body, zipped(text)), true)
				want(t, resp.Header.Get("Content-Encoding"), "gzip")
				want(t, resp.ContentLength, int64(len(body)))
			case tc.undone:
				want(t, bytes.Equal(body, text), true)
				want(t, resp.Header.Get("Content-Encoding")+resp.Header.Get("Content-Length"), "")
				want(t, resp.ContentLength, -1)
			case tc.path == "/empty", tc.method == http.MethodHead:
				want(t, len(body), 0)
			default:
				want(t, bytes.Equal(body, text), true)
			}
			want(t, req.Header.Get("Accept-Encoding"), tc.header.Get("Accept-Encoding")) // the caller's header is not touched
		})
	}
}

// TestGzipKeepsErrors has compressed bodies that are cut short: the error is the
// one that says so, and the data before it is delivered.
func TestGzipKeepsErrors(t *testing.T) {
	text := peer.Pattern(50_000)
	z := zipped(text)
	part := h3frame.AppendData(nil, z[:len(z)/2])
	whole := h3frame.AppendData(nil, z)
	closing := func(c *rawPeerConn, code quic.ApplicationErrorCode) {
		time.Sleep(50 * time.Millisecond) // the bytes must arrive before the close
		_ = c.CloseWithError(code, "")
	}
	for _, tc := range []struct {
		name   string
		answer func(c *rawPeerConn, s *quic.Stream)
		check  func(t *testing.T, body []byte, err error)
	}{
		{"graceful close", func(c *rawPeerConn, s *quic.Stream) {
			_, _ = s.Write(append(head(200, "Content-Encoding", "gzip"), part...))
			closing(c, 0x100)
		}, func(t *testing.T, body []byte, err error) {
			want(t, len(body) > 0 && bytes.HasPrefix(text, body), true)
			wantAs(t, err, func(e *Truncated) bool { return e.Got == int64(len(z)/2) && e.Want == -1 })
			wantAs[*GracefulClose](t, err, nil)
		}},
		{"close behind the last byte, no FIN", func(c *rawPeerConn, s *quic.Stream) {
			_, _ = s.Write(append(head(200, "Content-Encoding", "gzip"), whole...))
			closing(c, 0x100)
		}, func(t *testing.T, body []byte, err error) {
			want(t, bytes.Equal(body, text), true)
			wantAs[*Truncated](t, err, nil) // more members might have come (RFC 1952 §2.2)
		}},
		{"close behind the last byte, length met", func(c *rawPeerConn, s *quic.Stream) {
			_, _ = s.Write(append(head(200, "Content-Encoding", "gzip", "Content-Length", fmt.Sprint(len(z))), whole...))
			closing(c, 0x100)
		}, func(t *testing.T, body []byte, err error) {
			want(t, bytes.Equal(body, text), true)
			want(t, err, nil)
		}},
		{"within gzip's header", func(c *rawPeerConn, s *quic.Stream) {
			_, _ = s.Write(append(head(200, "Content-Encoding", "gzip"), h3frame.AppendData(nil, z[:4])...))
			closing(c, 0x102)
		}, func(t *testing.T, _ []byte, err error) {
			wantAs(t, err, func(e *ConnClosed) bool { return e.Code == 0x102 })
		}},
		{"reset", func(_ *rawPeerConn, s *quic.Stream) {
			_, _ = s.Write(append(head(200, "Content-Encoding", "gzip"), part...))
			time.Sleep(50 * time.Millisecond)
			s.CancelWrite(0x102)
		}, func(t *testing.T, _ []byte, err error) {
			wantAs(t, err, func(e *StreamReset) bool { return e.Code == 0x102 })
		}},
		{"FIN too early, length not met", func(_ *rawPeerConn, s *quic.Stream) {
			finish(s, head(200, "Content-Encoding", "gzip", "Content-Length", fmt.Sprint(len(z))), part)
		}, func(t *testing.T, _ []byte, err error) {
			wantAs(t, err, func(e *Truncated) bool { return e.FINSeen && e.Want == int64(len(z)) })
		}},
		{"cut by its sender", func(_ *rawPeerConn, s *quic.Stream) {
			finish(s, head(200, "Content-Encoding", "gzip"), part)
		}, func(t *testing.T, _ []byte, err error) {
			want(t, errors.Is(err, io.ErrUnexpectedEOF), true)
		}},
		{"no gzip", func(_ *rawPeerConn, s *quic.Stream) {
			finish(s, head(200, "Content-Encoding", "gzip"), h3frame.AppendData(nil, []byte("in the clear, and long enough")))
		}, func(t *testing.T, _ []byte, err error) {
			want(t, errors.Is(err, gzip.ErrHeader), true)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			peer := newRawPeer(t, rawPeerOptions{answer: func(c *rawPeerConn, s *quic.Stream) {
				requestBytes(s)
				tc.answer(c, s)
			}})
			req, _ := http.NewRequest(http.MethodGet, "https://"+peer.addr+"/", nil)
			resp, err := newTransport(t, &Transport{}).RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			want(t, resp.Uncompressed, true)
			body, err := io.ReadAll(resp.Body)
			tc.check(t, body, err)
			if _, again := resp.Body.Read(make([]byte, 1)); err != nil && !errors.Is(again, err) {
				t.Errorf("the error is not sticky: %v, then %v", err, again)
			}
		})
	}
}
