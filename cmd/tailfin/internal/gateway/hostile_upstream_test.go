package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin/bench/hostile"
)

// A hostileAnswer is what an upstream sends in answer to a request, and what the client
// is to see of it: a status, "cut" for an answer that ends in an error, or several of
// these.
type hostileAnswer struct {
	name string
	once string // sent first
	rest string // sent again and again behind it, until the gateway takes no more
	want string
	body string // with 200
}

const okLine = "HTTP/1.1 200 OK\r\n"

// hostileAnswers break HTTP/1.1, or bend it.
var hostileAnswers = []hostileAnswer{
	{"CR in a value", okLine + "X-A: b\rX-Evil: 1\r\nContent-Length: 2\r\n\r\nok", "", "200 502", "ok"},
	{"NUL in a value", okLine + "X-A: b\x00c\r\nContent-Length: 2\r\n\r\nok", "", "200 502", "ok"},
	{"escapes in values", okLine + "X-A: \x1b[31m\u009b\x7f\xff\r\nServer: a\vb\r\nContent-Length: 2\r\n\r\nok", "", "200 502", "ok"},
	{"a line that goes on", okLine + "X-A: b\r\n X-Evil: 1\r\nContent-Length: 2\r\n\r\nok", "", "200 502", "ok"},
	{"space in a name", okLine + "X Evil: 1\r\nContent-Length: 2\r\n\r\nok", "", "200 502", "ok"},
	{"space behind a name", okLine + "X-Evil : 1\r\nContent-Length: 2\r\n\r\nok", "", "200 502", "ok"},
	{"no colon", okLine + "X-Evil\r\nContent-Length: 2\r\n\r\nok", "", "502", ""},
	{"no name", okLine + ": 1\r\nContent-Length: 2\r\n\r\nok", "", "200 502", "ok"},
	{"pseudo-header field", okLine + ":status: 201\r\nContent-Length: 2\r\n\r\nok", "", "200 502", "ok"},
	{"status 000", "HTTP/1.1 000 X\r\nContent-Length: 2\r\n\r\nok", "", "502", ""},
	{"status 099", "HTTP/1.1 099 X\r\nContent-Length: 2\r\n\r\nok", "", "502", ""},
	{"status 1000", "HTTP/1.1 1000 X\r\nContent-Length: 2\r\n\r\nok", "", "502", ""},
	{"status -20", "HTTP/1.1 -20 X\r\nContent-Length: 2\r\n\r\nok", "", "502", ""},
	{"status 999", "HTTP/1.1 999 \x1b[2J\r\nContent-Length: 2\r\n\r\nok", "", "999", ""},
	{"101 unasked for", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", "", "502", ""},
	{"another protocol", "ICY 200 OK\r\n\r\n", "", "502", ""},
	{"HTTP/2", "\x00\x00\x12\x04\x00\x00\x00\x00\x00", "", "502", ""},
	{"TLS", "\x15\x03\x01\x00\x02\x02\x46", "", "502", ""},
	{"garbage", strings.Repeat("\xff", 1000), "", "502", ""},
	{"nothing", "", "", "502", ""},
	{"two lengths", okLine + "Content-Length: 2\r\nContent-Length: 20\r\n\r\nok", "", "502", ""},
	{"length and chunks", okLine + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "", "200 502", "hello"},
	{"a negative length", okLine + "Content-Length: -2\r\n\r\nok", "", "502", ""},
	{"a length with a sign", okLine + "Content-Length: +2\r\n\r\nok", "", "502", ""},
	{"a length above 2^63", okLine + "Content-Length: 9223372036854775808\r\n\r\nok", "", "502", ""},
	{"a length that does not come", okLine + "Content-Length: 9223372036854775807\r\n\r\nok", "", "cut", ""},
	{"a body that is longer", okLine + "Content-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nX-Evil: 1\r\nContent-Length: 4\r\n\r\nevil", "", "200", "ok"},
	{"a body with 204", "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil", "", "204", ""},
	{"a body with 304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil", "", "304", ""},
	{"a coding that is not known", okLine + "Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "", "502", ""},
	{"two codings", okLine + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "", "502", ""},
	{"a chunk that is no number", okLine + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n", "", "cut", ""},
	{"a negative chunk", okLine + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n-1\r\n", "", "cut", ""},
	{"a chunk above 2^64", okLine + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1ffffffffffffffff\r\nx", "", "cut", ""},
	{"a chunk that does not end", okLine + "Transfer-Encoding: chunked\r\n\r\n2\r\nokxx\r\n0\r\n\r\n", "", "cut", ""},
	{"fields of the connection", okLine + "Connection: X-Evil, keep-alive\r\nX-Evil: 1\r\nKeep-Alive: x\r\nProxy-Connection: x\r\nContent-Length: 2\r\n\r\nok", "", "200", "ok"},
	{"trailers of all kinds", okLine + "Transfer-Encoding: chunked\r\nTrailer: X-Sum, Content-Length\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\nContent-Length: 9\r\nX-Cr: a\rb\r\n\r\n", "", "200 cut 502", "ok"},
	{"a trailer with a space", okLine + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX Evil: 7\r\n\r\n", "", "200 cut", "ok"},

	{"103 without end", "", "HTTP/1.1 103 Early Hints\r\nLink: </" + strings.Repeat("x", 1000) + ">\r\n\r\n", "502", ""},
	{"100 without end", "", "HTTP/1.1 100 Continue\r\n\r\n", "502", ""},
	{"102 without end", "", "HTTP/1.1 102 Processing\r\n\r\n", "502", ""},
	{"a status line without end", "HTTP/1.1 200 ", strings.Repeat("x", 4000), "502", ""},
	{"fields without end", okLine, "X-A: " + strings.Repeat("x", 1000) + "\r\n", "502", ""},
	{"small fields without end", okLine, strings.Repeat("a:\r\n", 1000), "502", ""},
	{"one field without end", okLine + "X-A: ", strings.Repeat("x", 4000), "502", ""},
	{"a name without end", okLine, strings.Repeat("x", 4000), "502", ""},
	{"line ends without end", "", "\r\n", "502", ""},
	{"a chunk's size without end", okLine + "Transfer-Encoding: chunked\r\n\r\n", strings.Repeat("0", 4000), "cut", ""},
	{"an extension of a chunk without end", okLine + "Transfer-Encoding: chunked\r\n\r\n2;", strings.Repeat("x", 4000), "cut", ""},
	{"chunks of a byte with long extensions", okLine + "Transfer-Encoding: chunked\r\n\r\n", "1;" + strings.Repeat("x", 1000) + "\r\nx\r\n", "cut", ""},
	{"trailers without end", okLine + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n", "X-A: " + strings.Repeat("x", 1000) + "\r\n", "cut", ""},
}

// A hostileUpstream answers as the path of a request says.
type hostileUpstream struct {
	ln      net.Listener
	answers map[string]hostileAnswer
	taken   atomic.Int64 // bytes of the last answer that the gateway took
	work    sync.WaitGroup
}

func newHostileUpstream(t *testing.T) *hostileUpstream {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &hostileUpstream{ln: ln, answers: make(map[string]hostileAnswer)}
	for i, a := range hostileAnswers {
		u.answers[fmt.Sprint("/", i)] = a
	}
	u.work.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			u.work.Go(func() { u.serve(conn) })
		}
	})
	return u
}

func (u *hostileUpstream) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		a, evil := u.answers[req.URL.Path]
		switch {
		case req.URL.Path == "/slow": // a byte now and then, and no end of the head
			for _, err = io.WriteString(conn, okLine); err == nil; _, err = io.WriteString(conn, "X: y\r\n") {
				time.Sleep(10 * time.Millisecond)
			}
		case !evil:
			_, err = io.WriteString(conn, okLine+"Content-Length: 4\r\n\r\ngood")
		default:
			n, _ := io.WriteString(conn, a.once)
			taken := int64(n)
			for err = nil; a.rest != "" && err == nil; {
				n, err = io.WriteString(conn, a.rest)
				taken += int64(n)
				u.taken.Store(taken)
			}
			u.taken.Store(taken)
			if !strings.Contains(a.want, "200") {
				return // else the gateway may want more on the connection
			}
		}
		if err != nil {
			return
		}
	}
}

// TestHostileUpstream has an upstream answer by every way to break HTTP/1.1: clients
// get an error or an answer that is clean, the gateway takes no more than its bounds, and
// the next request is answered.
func TestHostileUpstream(t *testing.T) {
	u := newHostileUpstream(t)
	upstream := "http://" + u.ln.Addr().String()
	tr := newTrial(t, upstream, "answers of an HTTP/1.1 upstream that break the protocol, lie about lengths or never end", &u.taken)
	for i, a := range hostileAnswers {
		if seen, body := tr.ask(t, i, a.name, http.MethodGet, nil, a.want); seen == "200" && body != a.body {
			t.Errorf("%s: body %.100q, want %q", a.name, body, a.body)
			tr.Corrupt++
		}
		// Bytes behind an answer may be taken for the next one, once.
		if !tr.good(t) && (a.name != "a body that is longer" || !tr.good(t)) {
			tr.lose(t, a.name)
		}
	}
	slow := startGateway(t, Config{Upstream: upstream, BreakerFailures: 1 << 30, HeaderTimeout: 300 * time.Millisecond})
	tr.Tries++
	if resp, _ := slow.mustDo(t, http.MethodGet, "/slow", nil); resp.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("a head that does not end: %s", resp.Status)
		tr.Corrupt++
	}
	_ = tr.Close()
	_ = slow.Close()
	_ = u.ln.Close()
	ended := make(chan struct{})
	go func() { u.work.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("the gateway keeps connections that it has given up")
		tr.Leaked++
	}
	tr.end(t, 16<<20) // of which most is in the sockets
}

// TestHostileEndlessBody has a client leave in the middle of a body without end.
func TestHostileEndlessBody(t *testing.T) {
	gone := make(chan struct{}, 1)
	u := serveTCP(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.Copy(w, zeros{})
		gone <- struct{}{}
	}), false)
	g := startGateway(t, Config{Upstream: u})
	endless := hostile.Result{Kind: "peer", Fault: "a body without end, of which the client takes a part"}
	for range hostile.Size(5, 100) {
		endless.Tries++
		ctx, leave := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url("/"), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := g.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil {
			t.Error(err)
			endless.Lost++
		}
		leave()
		_ = resp.Body.Close()
		select {
		case <-gone:
		case <-time.After(time.Minute):
			t.Error("the upstream sends on")
			endless.Leaked++
		}
	}
	eventually(t, "none is at work", func() bool { return g.metric(t, "requests_in_flight") == 0 })
	endless.Bound = fmt.Sprintf("tailfin_gateway_requests_in_flight %.0f, %d upstream connections ended", g.metric(t, "requests_in_flight"), endless.Tries)
	endless.Report(t)
}
