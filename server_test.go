package tailfin

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/h3frame"
	"github.com/tailfin-quic/tailfin/udp"
)

// A rawClient speaks to a server byte by byte.
type rawClient struct {
	conn *quic.Conn
}

func newRawClient(t *testing.T, addr string) *rawClient {
	t.Helper()
	return dialRaw(t, addr, nil)
}

func dialRaw(t *testing.T, addr string, quicConf *quic.Config) *rawClient {
	t.Helper()
	socket, err := udp.Listen("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return dialRawOn(t, addr, socket, quicConf)
}

// dialRawOn is dialRaw on a socket, which is closed when the test ends.
func dialRawOn(t *testing.T, addr string, socket net.PacketConn, quicConf *quic.Config) *rawClient {
	t.Helper()
	tr := &quic.Transport{Conn: socket}
	t.Cleanup(func() {
		_ = tr.Close()
		_ = socket.Close()
	})
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	conf := clientTLS(t)
	conf.ServerName = "localhost"
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := tr.Dial(ctx, to, conf, quicConf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseWithError(0x100, "") })
	return &rawClient{conn}
}

// send writes bytes and a FIN on a new request stream, and returns it.
func (c *rawClient) send(t *testing.T, parts ...[]byte) *quic.Stream {
	t.Helper()
	str, err := c.conn.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = str.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := str.Write(bytes.Join(parts, nil)); err != nil {
		t.Fatal(err)
	}
	_ = str.Close()
	return str
}

// sendUni writes bytes on a new unidirectional stream, and returns it.
func (c *rawClient) sendUni(t *testing.T, fin bool, parts ...[]byte) *quic.SendStream {
	t.Helper()
	str, err := c.conn.OpenUniStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := str.Write(bytes.Join(parts, nil)); err != nil {
		t.Fatal(err)
	}
	if fin {
		_ = str.Close()
	}
	return str
}

// section is an encoded HEADERS frame.
func section(fields ...string) []byte {
	var list []h3frame.Field
	for i := 0; i+1 < len(fields); i += 2 {
		list = append(list, h3frame.Field{Name: fields[i], Value: fields[i+1]})
	}
	return h3frame.AppendHeaders(nil, h3frame.AppendFieldSection(nil, list))
}

func get(path string, more ...string) []byte {
	return section(append([]string{":method", "GET", ":scheme", "https", ":authority", "localhost", ":path", path}, more...)...)
}

// TestMalformedRequests has requests that end in a stream error, while the
// connection goes on.
func TestMalformedRequests(t *testing.T) {
	addr := startServer(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})})
	c := newRawClient(t, addr)
	post := func(more ...string) []byte {
		return section(append([]string{":method", "POST", ":scheme", "https", ":authority", "localhost", ":path", "/"}, more...)...)
	}
	for _, tc := range []struct {
		name string
		req  []byte
		code h3frame.ErrorCode
	}{
		{"no bytes", nil, h3frame.ErrCodeRequestIncomplete},
		{"no method", section(":scheme", "https", ":authority", "localhost", ":path", "/"), h3frame.ErrCodeMessage},
		{"method twice", get("/", ":method", "GET"), h3frame.ErrCodeMessage},
		{"upper case name", get("/", "X-Upper", "1"), h3frame.ErrCodeMessage},
		{"connection field", get("/", "connection", "close"), h3frame.ErrCodeMessage},
		{"pseudo-header after a field", get("/", "a", "b", ":path", "/x"), h3frame.ErrCodeMessage},
		{"unknown pseudo-header", get("/", ":foo", "b"), h3frame.ErrCodeMessage},
		{"content-length that is no number", post("content-length", "x"), h3frame.ErrCodeMessage},
		{"path without a slash", get("nowhere"), h3frame.ErrCodeMessage},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := io.ReadAll(c.send(t, tc.req))
			var reset *quic.StreamError
			if !errors.As(err, &reset) || h3frame.ErrorCode(reset.ErrorCode) != tc.code {
				t.Fatalf("%v, want a reset with %s", err, tc.code)
			}
			// The connection is still good.
			if b, err := io.ReadAll(c.send(t, get("/"))); err != nil || len(b) == 0 {
				t.Fatalf("the next request failed: %v", err)
			}
		})
	}
}

// TestConnectionErrors has violations that end the connection.
func TestConnectionErrors(t *testing.T) {
	control := h3frame.AppendStreamType(nil, h3frame.StreamControl)
	settings := h3frame.AppendSettings(nil, h3frame.Settings{})
	goAway := h3frame.AppendGoAway(nil, 0)
	data := h3frame.AppendData(nil, []byte("x"))
	for _, tc := range []struct {
		name string
		send func(t *testing.T, c *rawClient)
		code h3frame.ErrorCode
	}{
		{"DATA before HEADERS", func(t *testing.T, c *rawClient) { c.send(t, data) }, h3frame.ErrCodeFrameUnexpected},
		{"SETTINGS on a request stream", func(t *testing.T, c *rawClient) { c.send(t, settings) }, h3frame.ErrCodeFrameUnexpected},
		{"frame cut by FIN", func(t *testing.T, c *rawClient) { c.send(t, get("/"), data[:2]) }, h3frame.ErrCodeFrame},
		{"bad field section", func(t *testing.T, c *rawClient) { c.send(t, h3frame.AppendHeaders(nil, []byte{0xff})) }, h3frame.ErrCodeQPACKDecompressionFailed},
		{"control stream without SETTINGS", func(t *testing.T, c *rawClient) { c.sendUni(t, false, control, goAway) }, h3frame.ErrCodeMissingSettings},
		{"SETTINGS twice", func(t *testing.T, c *rawClient) { c.sendUni(t, false, control, settings, settings) }, h3frame.ErrCodeFrameUnexpected},
		{"two control streams", func(t *testing.T, c *rawClient) {
			c.sendUni(t, false, control, settings)
			c.sendUni(t, false, control, settings)
		}, h3frame.ErrCodeStreamCreation},
		{"control stream closed", func(t *testing.T, c *rawClient) { c.sendUni(t, true, control, settings) }, h3frame.ErrCodeClosedCriticalStream},
		{"push stream from a client", func(t *testing.T, c *rawClient) {
			c.sendUni(t, false, h3frame.AppendStreamType(nil, h3frame.StreamPush))
		}, h3frame.ErrCodeStreamCreation},
		{"GOAWAY raised", func(t *testing.T, c *rawClient) {
			c.sendUni(t, false, control, settings, goAway, h3frame.AppendGoAway(nil, 4))
		}, h3frame.ErrCodeID},
	} {
		t.Run(tc.name, func(t *testing.T) {
			addr := startServer(t, &Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
			})})
			c := newRawClient(t, addr)
			tc.send(t, c)
			wantConnClosed(t, c, tc.code)
		})
	}
}

// TestUnknownStreamsAreIgnored sends grease (RFC 9114 §6.2.3, §7.2.8).
func TestUnknownStreamsAreIgnored(t *testing.T) {
	addr := startServer(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })})
	c := newRawClient(t, addr)
	c.sendUni(t, false, h3frame.AppendVarint(nil, h3frame.Grease(7)), []byte("whatever"))
	c.sendUni(t, true)
	grease := append(h3frame.AppendFrameHeader(nil, h3frame.FrameType(h3frame.Grease(3)), 5), "noise"...)
	if b, err := io.ReadAll(c.send(t, grease, get("/"), grease)); err != nil || !bytes.HasSuffix(b, []byte("ok")) {
		t.Fatalf("%q, %v", b, err)
	}
}

func TestLargeFieldSectionIsRefused(t *testing.T) {
	addr := startServer(t, &Server{MaxHeaderBytes: 2000, Handler: http.NotFoundHandler()})
	// Not by a Transport, which would not send it.
	str, err := newRawClient(t, addr).conn.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = str.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, _ = str.Write(get("/", "x-long", strings.Repeat("é{", 900))) // may be stopped by the answer
	_ = str.Close()
	b, err := io.ReadAll(str)
	if err != nil {
		t.Fatal(err)
	}
	dec := h3frame.NewResponseDecoder(h3frame.ResponseStream, http.MethodGet, h3frame.Limits{})
	_, _ = dec.Buffer().Write(b)
	ev, err := dec.Next()
	if err != nil || ev.Response.Status != http.StatusRequestHeaderFieldsTooLarge {
		t.Fatalf("%+v, %v", ev, err)
	}
}

func TestHandlerPanics(t *testing.T) {
	var log peer.Output
	addr := startServer(t, &Server{Logger: slog.New(slog.NewTextHandler(&log, nil)), Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/abort" {
			panic(http.ErrAbortHandler)
		}
		if r.URL.Path == "/panic" {
			panic("at the disco")
		}
	})})
	c := client(t, &Transport{})
	for _, path := range []string{"/abort", "/panic"} {
		_, err := c.Get("https://" + addr + path)
		wantAs(t, err, func(e *StreamReset) bool { return e.Code == uint64(h3frame.ErrCodeInternal) && e.Remote })
	}
	resp, err := c.Get("https://" + addr + "/fine")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("after a panic: %v", err)
	}
	_ = resp.Body.Close()
	if text := log.String(); strings.Count(text, "handler panicked") != 1 || !strings.Contains(text, "at the disco") {
		t.Fatalf("log: %s", text)
	}
}

// TestResponseWriter has what net/http promises of a ResponseWriter.
func TestResponseWriter(t *testing.T) {
	for _, tc := range []struct {
		name    string
		method  string
		handler http.HandlerFunc
		check   func(t *testing.T, resp *http.Response, body string, err error)
	}{
		{"nothing written", "GET", func(http.ResponseWriter, *http.Request) {}, func(t *testing.T, r *http.Response, body string, _ error) {
			want(t, r.StatusCode, 200)
			want(t, r.ContentLength, 0)
			want(t, body, "")
		}},
		{"small body has a length and a type", "GET", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "<html>")
			_, _ = io.WriteString(w, "</html>")
		}, func(t *testing.T, r *http.Response, body string, _ error) {
			want(t, r.ContentLength, 13)
			want(t, r.Header.Get("Content-Type"), "text/html; charset=utf-8")
			want(t, r.Header.Get("Date") != "", true)
			want(t, body, "<html></html>")
		}},
		{"flushed body has no length", "GET", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "a")
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "b")
		}, func(t *testing.T, r *http.Response, body string, _ error) {
			want(t, r.ContentLength, -1)
			want(t, body, "ab")
		}},
		{"HEAD", "HEAD", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") },
			func(t *testing.T, r *http.Response, body string, _ error) {
				want(t, r.ContentLength, 5)
				want(t, body, "")
			}},
		{"no body with 204", "GET", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNoContent)
			if _, err := io.WriteString(w, "x"); !errors.Is(err, http.ErrBodyNotAllowed) {
				panic(fmt.Sprint("write after 204: ", err))
			}
		}, func(t *testing.T, r *http.Response, body string, err error) {
			want(t, r.StatusCode, 204)
			want(t, body, "")
			want(t, err, nil)
		}},
		{"second WriteHeader is ignored", "GET", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusTeapot)
			w.WriteHeader(http.StatusOK)
		}, func(t *testing.T, r *http.Response, _ string, _ error) { want(t, r.StatusCode, 418) }},
		{"less than declared", "GET", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "hello")
			_ = http.NewResponseController(w).Flush()
		}, func(t *testing.T, _ *http.Response, _ string, err error) {
			if err == nil {
				t.Error("a short answer was taken for whole")
			}
		}},
		{"more than declared", "GET", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "3")
			if _, err := io.WriteString(w, "hello"); !errors.Is(err, http.ErrContentLength) {
				panic(fmt.Sprint("write beyond the length: ", err))
			}
			_, _ = io.WriteString(w, "hel")
		}, func(t *testing.T, _ *http.Response, body string, err error) {
			want(t, body, "hel")
			want(t, err, nil)
		}},
		{"trailer by prefix", "GET", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "body")
			w.Header().Set(http.TrailerPrefix+"X-After", "late")
		}, func(t *testing.T, r *http.Response, _ string, _ error) { want(t, r.Trailer.Get("X-After"), "late") }},
		{"large body in many writes", "GET", func(w http.ResponseWriter, _ *http.Request) {
			for range 3000 {
				_, _ = w.Write(bytes.Repeat([]byte("0123456789"), 10))
			}
		}, func(t *testing.T, _ *http.Response, body string, err error) {
			want(t, body == strings.Repeat("0123456789", 30_000), true)
			want(t, err, nil)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			addr := startServer(t, &Server{Handler: tc.handler})
			req, _ := http.NewRequest(tc.method, "https://"+addr+"/", nil)
			resp, err := client(t, &Transport{}).Do(req)
			if err != nil {
				tc.check(t, &http.Response{}, "", err)
				return
			}
			defer func() { _ = resp.Body.Close() }()
			body, err := io.ReadAll(resp.Body)
			tc.check(t, resp, string(body), err)
		})
	}
}

func want[T comparable](t *testing.T, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestExpectContinue(t *testing.T) {
	addr := startServer(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})})
	c := newRawClient(t, addr)
	str, err := c.conn.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = str.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, _ = str.Write(section(":method", "POST", ":scheme", "https", ":authority", "localhost", ":path", "/", "expect", "100-continue"))
	src := newMessageSource(newRecvStream(str, new(atomic.Int64), nil), h3frame.NewResponseDecoder(h3frame.ResponseStream, "POST", h3frame.Limits{}))
	status := func() int {
		ev, err := src.next()
		if err != nil {
			t.Fatal(err)
		}
		return ev.Response.Status
	}
	want(t, status(), 100)
	_, _ = str.Write(h3frame.AppendData(nil, []byte("now")))
	_ = str.Close()
	want(t, status(), 200)
	ev, err := src.next()
	want(t, string(ev.Body), "now")
	want(t, err, nil)
}

// TestFullDuplex answers line by line while the request goes on.
func TestFullDuplex(t *testing.T) {
	addr := startServer(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for lines := bufio.NewScanner(r.Body); lines.Scan(); {
			_, _ = fmt.Fprintf(w, "got %s\n", lines.Text())
			_ = http.NewResponseController(w).Flush()
		}
	})})
	pr, pw := io.Pipe()
	req, _ := http.NewRequest(http.MethodPost, "https://"+addr+"/", pr)
	go func() { _, _ = io.WriteString(pw, "0\n") }()
	resp, err := client(t, &Transport{}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewReader(resp.Body)
	for i := range 5 {
		line, err := lines.ReadString('\n')
		if err != nil || line != fmt.Sprintf("got %d\n", i) {
			t.Fatalf("line %d: %q, %v", i, line, err)
		}
		_, _ = fmt.Fprintf(pw, "%d\n", i+1)
	}
	_ = pw.Close()
	rest, err := io.ReadAll(lines)
	want(t, string(rest), "got 5\n")
	want(t, err, nil)
}
