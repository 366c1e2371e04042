package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// A hostileStream is what an upstream sends on a request's stream, and what the client
// is to see of it, as of a hostileAnswer.
type hostileStream struct {
	name  string
	once  []byte
	rest  []byte // sent again and again, until the gateway takes no more
	reset bool   // in place of a FIN
	want  string
}

// section is a HEADERS frame of fields in pairs.
func section(pairs ...string) []byte {
	return h3frame.AppendHeaders(nil, h3frame.AppendFieldSection(nil, fields(pairs...)))
}

func data(body string) []byte { return h3frame.AppendData(nil, []byte(body)) }

func frames(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// hostileStreams break HTTP/3.
func hostileStreams() []hostileStream {
	good := section(":status", "200", "content-length", "2")
	list := []hostileStream{
		{name: "nothing", want: "502"},
		{name: "a reset", reset: true, want: "502"},
		{name: "garbage", once: bytes.Repeat([]byte{0xff}, 1000), want: "502"},
		{name: "a frame cut short", once: good[:len(good)-1], want: "502"},
		{name: "DATA ahead of HEADERS", once: frames(data("ok"), good), want: "502"},
		{name: "SETTINGS on a request's stream", once: h3frame.AppendFrameHeader(nil, h3frame.FrameSettings, 0), want: "502"},
		{name: "a push", once: h3frame.AppendPushPromise(nil, 0, nil), want: "502"},
		{name: "a longer body", once: frames(good, data("ok and more")), want: "cut"},
		{name: "a shorter body", once: frames(good, data("o")), want: "cut"},
		{name: "a body cut by a reset", once: frames(good, data("o")), reset: true, want: "cut"},
		{name: "a length of nothing", once: frames(section(":status", "200", "content-length", "9223372036854775807"), data("ok")), want: "cut"},
		{name: "two lengths", once: frames(section(":status", "200", "content-length", "2", "content-length", "3"), data("ok")), want: "502"},
		{name: "a third section", once: frames(good, data("ok"), section("x-sum", "1"), section("x-sum", "2")), want: "cut"},
		{name: "DATA behind the trailers", once: frames(good, data("ok"), section("x-sum", "1"), data("evil")), want: "cut"},
		{name: "a status in the trailers", once: frames(good, data("ok"), section(":status", "201")), want: "cut"},
		{name: "a field that needs the dynamic table", once: h3frame.AppendHeaders(nil, []byte{1, 0, 0x80}), want: "502"},

		{name: "103 without end", rest: section(":status", "103", "link", "</"+strings.Repeat("x", 1000)+">"), want: "502"},
		{name: "100 without end", rest: section(":status", "100"), want: "502"},
		{name: "a section of 4 GiB", once: h3frame.AppendFrameHeader(nil, h3frame.FrameHeaders, 4<<30), rest: make([]byte, 4000), want: "502"},
		{name: "a section of small fields", once: frames(section(append([]string{":status", "200"}, strings.Split(strings.Repeat("a,,", 100_000), ",")[:200_000]...)...)), want: "502"},
	}
	for _, status := range []string{"", "20", "2000", "099", "101", "abc", "-20", "+20", "20 ", "2 0"} {
		list = append(list, hostileStream{name: fmt.Sprintf("status %q", status), once: frames(section(":status", status), data("ok")), want: "502"})
	}
	for _, pair := range [][2]string{
		{":status", "201"}, {":path", "/"}, {":evil", "1"}, {"X-Evil", "1"}, {"x evil", "1"}, {"x-evil\r\nx", "1"}, {"x-evil", "a\r\nb"}, {"x-evil", "a\nb"}, {"x-evil", "a\x00b"}, {"x-evil", " a"}, {"", "1"},
		{"connection", "close"}, {"transfer-encoding", "chunked"}, {"keep-alive", "1"}, {"upgrade", "x"}, {"proxy-connection", "x"},
	} {
		list = append(list, hostileStream{name: fmt.Sprintf("field %q: %q", pair[0], pair[1]), once: frames(section(":status", "200", pair[0], pair[1]), data("ok")), want: "502"})
	}
	return list
}

// serveHostileStreams answers a request for /N with the N-th of list, and any other well.
// taken has the bytes of the last answer that were taken.
func serveHostileStreams(t *testing.T, list []hostileStream, taken *atomic.Int64) (addr string) {
	t.Helper()
	ln, err := quic.ListenAddr("127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert(t)}, MinVersion: tls.VersionTLS13, NextProtos: []string{"h3"}}, &quic.Config{HandshakeIdleTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(func() {
		stop()
		_ = ln.Close()
		work.Wait()
	})
	answer := func(str *quic.Stream) {
		request, _ := io.ReadAll(io.LimitReader(str, 1<<20))
		a := hostileStream{once: frames(section(":status", "200", "content-length", "4"), data("good"))}
		if n := numberOf(request); n >= 0 && n < len(list) {
			a = list[n]
		}
		n, err := str.Write(a.once)
		for all := int64(n); err == nil && len(a.rest) > 0; {
			n, err = str.Write(a.rest)
			all += int64(n)
			taken.Store(all)
		}
		if a.reset {
			time.Sleep(50 * time.Millisecond) // it would overtake what was sent
			str.CancelWrite(quic.StreamErrorCode(h3frame.ErrCodeInternal))
			return
		}
		_ = str.Close()
	}
	work.Go(func() {
		for {
			conn, err := ln.Accept(ctx)
			if err != nil {
				return
			}
			work.Go(func() {
				defer func() { _ = conn.CloseWithError(quic.ApplicationErrorCode(h3frame.ErrCodeNoError), "") }()
				control, err := conn.OpenUniStream()
				if err != nil {
					return
				}
				_, _ = control.Write(h3frame.AppendSettings(h3frame.AppendStreamType(nil, h3frame.StreamControl), h3frame.Settings{}))
				for {
					str, err := conn.AcceptStream(ctx)
					if err != nil {
						return
					}
					work.Go(func() { answer(str) })
				}
			})
		}
	})
	return ln.Addr().String()
}

// numberOf is the N of a request's :path /N, -1 if it has none.
func numberOf(request []byte) int {
	dec := h3frame.NewRequestDecoder(h3frame.Limits{})
	dec.Buffer().Append(request)
	dec.Buffer().Finish(io.EOF)
	ev, err := dec.Next()
	if err != nil || ev.Request == nil {
		return -1
	}
	n := -1
	_, _ = fmt.Sscanf(ev.Request.Path, "/%d", &n)
	return n
}

// TestHostileHTTP3Upstream is TestHostileUpstream for an upstream over HTTP/3.
func TestHostileHTTP3Upstream(t *testing.T) {
	list := hostileStreams()
	var taken atomic.Int64
	upstream := "h3://" + serveHostileStreams(t, list, &taken)
	tr := newTrial(t, upstream, "answers of an HTTP/3 upstream that break the protocol, lie about lengths or never end", &taken)
	for i, a := range list {
		tr.ask(t, i, a.name, http.MethodPost, strings.NewReader("x"), a.want)
		if !tr.good(t) {
			tr.lose(t, a.name)
		}
	}
	tr.end(t, 4<<20)
}
