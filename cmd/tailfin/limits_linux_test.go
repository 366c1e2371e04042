package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/h3frame"
)

// TestMaxConns holds connections open up to the limits, and asks for one more.
func TestMaxConns(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ flag, limit string }{{"--max-conns", "all"}, {"--max-conns-per-addr", "address"}} {
		t.Run(tc.flag, func(t *testing.T) {
			t.Parallel()
			d := serveObserved(t, tc.flag, "2")
			first, second := mustDial(t, d.addr), mustDial(t, d.addr)
			d.waitMetric(t, 2, "tailfin_server_connections_open")
			wantRefused(t, d.addr, "127.0.0.1")
			if got := d.metric(t, "tailfin_server_connections_refused_total", "limit="+tc.limit); got < 1 {
				t.Errorf("%v refusals count, want 1 or more", got)
			}
			if tc.limit == "address" {
				if _, err := dialRaw(t, d.addr, "127.0.0.2"); err != nil {
					t.Errorf("from another address: %v", err)
				}
			} else {
				wantRefused(t, d.addr, "127.0.0.2")
			}
			if d.lines("connection refused", "too many connections") == 0 {
				t.Errorf("the log says nothing:\n%s", d.log)
			}
			_ = first.CloseWithError(quic.ApplicationErrorCode(h3frame.ErrCodeNoError), "")
			eventually(t, "one that was closed makes room", func() bool {
				_, err := dialRaw(t, d.addr, "127.0.0.1")
				return err == nil
			})
			_ = second.CloseWithError(quic.ApplicationErrorCode(h3frame.ErrCodeNoError), "")
		})
	}
}

// TestMaxStreams has a client with more requests than may be at work at once: it waits
// with the rest of them.
func TestMaxStreams(t *testing.T) {
	t.Parallel()
	d := serveObserved(t, "--max-streams", "3")
	conn := mustDial(t, d.addr)
	var held []*quic.Stream
	for range 3 {
		str, err := conn.OpenStreamSync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = str.Write(h3frame.AppendHeaders(nil, requestSection("PUT", "/held")))
		held = append(held, str)
	}
	d.waitMetric(t, 3, "tailfin_http_requests_active")
	if _, err := conn.OpenStream(); !errors.Is(err, &quic.StreamLimitReachedError{}) {
		t.Errorf("a fourth request: %v, want to have to wait", err)
	}
	for _, str := range held {
		_ = str.Close()
		if _, err := io.ReadAll(str); err != nil {
			t.Errorf("a held request: %v", err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := conn.OpenStreamSync(ctx); err != nil {
		t.Errorf("after the others were answered: %v", err)
	}
	_ = conn.CloseWithError(quic.ApplicationErrorCode(h3frame.ErrCodeNoError), "")

	tr := newTransport(t)
	tr.MaxConnsPerHost = 1
	before := d.metric(t, "tailfin_server_connections_total")
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			a, err := send(t, tr, "PUT", fmt.Sprintf("https://%s/many-%d", d.addr, i), strings.NewReader("x"))
			if err != nil || a.StatusCode != http.StatusCreated {
				t.Errorf("request %d of many: %v %v", i, a.Response, err)
			}
		})
	}
	wg.Wait()
	if got := d.metric(t, "tailfin_server_connections_total") - before; got != 1 {
		t.Errorf("the client took %v connections, want 1", got)
	}
}

// requestSection is the field section of a request without more.
func requestSection(method, path string) []byte {
	return h3frame.AppendFieldSection(nil, h3frame.RequestFields(h3frame.RequestHead{Method: method, Scheme: "https", Authority: "localhost", Path: path}))
}

// TestSizes has heads and bodies that are longer than allowed, from two clients.
func TestSizes(t *testing.T) {
	t.Parallel()
	d := serveObserved(t, "--max-header", "2KiB", "--max-body", "1000")
	foreign := &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer func() { _ = foreign.Close() }()
	url := "https://" + d.addr + "/x"
	long := strings.Repeat("x", 1001)
	for i, rt := range []http.RoundTripper{newTransport(t), foreign} {
		wantStatus(t, rt, http.StatusRequestEntityTooLarge, "PUT", url, strings.NewReader(long))
		wantStatus(t, rt, http.StatusRequestEntityTooLarge, "POST", url, unsized(long))
		if got := d.metric(t, "tailfin_sink_stores_total", "result=too_long"); got != float64(2*(i+1)) {
			t.Errorf("%v bodies count as too long, want %d", got, 2*(i+1))
		}
		wantStatus(t, rt, http.StatusCreated, "PUT", url, unsized(long[1:]))
	}
	wantStatus(t, foreign, http.StatusRequestHeaderFieldsTooLarge, "PUT", url, strings.NewReader("x"), "X-Long", strings.Repeat("x", 4000))
	d.waitMetric(t, 1, "tailfin_server_requests_header_too_large_total")
	wantStatus(t, foreign, http.StatusCreated, "PUT", url, strings.NewReader("x"), "X-Long", strings.Repeat("x", 1000))
	// Ours heeds the limit that the server tells, or is told.
	a, err := send(t, newTransport(t), "PUT", url, strings.NewReader("x"), "X-Long", strings.Repeat("x", 4000))
	if err == nil && a.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("our client with a long head: %s", a.Status)
	}
}

// TestHandshakeRates has rates of which one connection or request is too much: one in
// a hundred seconds.
func TestHandshakeRates(t *testing.T) {
	t.Parallel()
	const slow = "0.01"
	t.Run("--handshake-rate", func(t *testing.T) {
		t.Parallel()
		d := serveObserved(t, "--handshake-rate", "0")
		for i := range 5 {
			wantStatus(t, newTransport(t), http.StatusCreated, "PUT", fmt.Sprintf("https://%s/x%d", d.addr, i), strings.NewReader("x"))
			if got := d.metric(t, "tailfin_limits_retries_total"); got < float64(i+1) { // more if a packet was sent again
				t.Errorf("%v retries for %d connections", got, i+1)
			}
		}
		d.waitMetric(t, 5, "tailfin_server_connections_total")
	})
	t.Run("--handshake-max", func(t *testing.T) {
		t.Parallel()
		d := serveObserved(t, "--handshake-max", slow)
		mustDial(t, d.addr)
		wantRefused(t, d.addr, "127.0.0.1")
		wantRefused(t, d.addr, "127.0.0.2")
		if got := d.metric(t, "tailfin_limits_handshakes_refused_total", "limit=all"); got < 2 { // each packet of a first flight counts
			t.Errorf("%v refusals count, want 2 or more", got)
		}
	})
	t.Run("--addr-handshakes", func(t *testing.T) {
		t.Parallel()
		d := serveObserved(t, "--addr-handshakes", slow)
		mustDial(t, d.addr)
		wantRefused(t, d.addr, "127.0.0.1")
		if _, err := dialRaw(t, d.addr, "127.0.0.2"); err != nil {
			t.Errorf("from another address: %v", err)
		}
		if got := d.metric(t, "tailfin_limits_handshakes_refused_total", "limit=address"); got < 1 {
			t.Errorf("%v refusals count, want 1 or more", got)
		}
	})
	t.Run("--addr-requests", func(t *testing.T) {
		t.Parallel()
		d := serveObserved(t, "--addr-requests", slow)
		tr, url := newTransport(t), "https://"+d.addr+"/x"
		wantStatus(t, tr, http.StatusCreated, "PUT", url, strings.NewReader("x"))
		a := wantStatus(t, tr, http.StatusTooManyRequests, "PUT", url, strings.NewReader("x"))
		if a.Header.Get("Retry-After") == "" {
			t.Error("429 without Retry-After")
		}
		d.waitMetric(t, 1, "tailfin_limits_requests_refused_total")
		if d.lines("status=429", "level=WARN", "--addr-requests") != 1 {
			t.Errorf("the log does not say so:\n%s", d.log)
		}
	})
}

// TestTimeouts has clients that go on too slowly, or not at all.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	t.Run("--header-timeout", func(t *testing.T) {
		t.Parallel()
		d := serveObserved(t, "--header-timeout", "100ms")
		conn := mustDial(t, d.addr)
		str, err := conn.OpenStreamSync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		section := requestSection("PUT", "/slow")
		head := h3frame.AppendHeaders(nil, section)
		_, _ = str.Write(head[:len(head)/2])
		got, err := io.ReadAll(str)
		var reset *quic.StreamError
		if len(got) == 0 && !errors.As(err, &reset) {
			t.Errorf("half a head: %v, want an answer or a reset", err)
		}
		d.waitMetric(t, 1, "tailfin_server_timeouts_total", "of=head")
		if conn.Context().Err() != nil {
			t.Errorf("its connection is gone: %v", context.Cause(conn.Context()))
		}
		if d.lines("header section too slow", "level=WARN") != 1 {
			t.Errorf("the log does not say so:\n%s", d.log)
		}
	})
	t.Run("--body-timeout", func(t *testing.T) {
		t.Parallel()
		d := serveObserved(t, "--body-timeout", "100ms")
		r, w := io.Pipe()
		defer w.Close()
		go func() { _, _ = io.WriteString(w, "some") }()
		a, err := send(t, newTransport(t), "PUT", "https://"+d.addr+"/slow", r)
		if err != nil || a.StatusCode != http.StatusRequestTimeout {
			t.Errorf("a body that stops: %v, %v; want 408", a.Response, err)
		}
		d.waitMetric(t, 1, "tailfin_server_timeouts_total", "of=body")
		d.waitMetric(t, 1, "tailfin_sink_stores_total", "result=cut")
		if _, err := os.Stat(d.dir + "/slow"); err == nil {
			t.Error("it is stored")
		}
	})
	t.Run("--request-timeout", func(t *testing.T) {
		t.Parallel()
		d := serveObserved(t, "--request-timeout", "200ms")
		r, w := io.Pipe()
		go func() { // a byte now and then, for as long as they are taken
			for {
				if _, err := io.WriteString(w, "x"); err != nil {
					return
				}
			}
		}()
		_, err := send(t, newTransport(t), "PUT", "https://"+d.addr+"/slow", r)
		_ = r.Close()
		var reset *tailfin.StreamReset
		if !errors.As(err, &reset) {
			t.Errorf("a request without end: %v, want a reset", err)
		}
		d.waitMetric(t, 1, "tailfin_server_timeouts_total", "of=request")
		if _, err := os.Stat(d.dir + "/slow"); err == nil {
			t.Error("it is stored")
		}
	})
	t.Run("--idle-timeout", func(t *testing.T) {
		t.Parallel()
		d := serveObserved(t, "--idle-timeout", "100ms")
		conn := mustDial(t, d.addr)
		select {
		case <-conn.Context().Done():
		case <-t.Context().Done():
		}
		var closed *quic.ApplicationError
		if err := context.Cause(conn.Context()); !errors.As(err, &closed) || !closed.Remote || closed.ErrorCode != quic.ApplicationErrorCode(h3frame.ErrCodeNoError) {
			t.Errorf("an idle connection: %v, want H3_NO_ERROR", err)
		}
		d.waitMetric(t, 1, "tailfin_server_timeouts_total", "of=idle")
	})
}

// TestKeepAlive has a client whose own QUIC gives up soon, with a request that takes
// long: the daemon asks whether it is there.
func TestKeepAlive(t *testing.T) {
	t.Parallel()
	d := serveObserved(t)
	pings := make(chan struct{}, 100)
	conf := &quic.Config{MaxIdleTimeout: 4 * time.Second, HandshakeIdleTimeout: patience, Tracer: func(context.Context, bool, quic.ConnectionID) qlogwriter.Trace {
		return pingTrace(pings)
	}}
	conn, err := quic.DialAddr(t.Context(), d.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h3"}}, conf)
	if err != nil {
		t.Fatal(err)
	}
	str, err := conn.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = str.Write(h3frame.AppendHeaders(nil, requestSection("PUT", "/long")))
	for range 3 {
		select {
		case <-pings:
		case <-conn.Context().Done():
			t.Fatalf("the connection is gone: %v", context.Cause(conn.Context()))
		}
	}
	_ = str.Close()
	if _, err := io.ReadAll(str); err != nil {
		t.Error(err)
	}
	d.waitMetric(t, 1, "tailfin_sink_stores_total", "result=stored")
}

// A pingTrace gets an element for each packet of the server with a PING.
type pingTrace chan struct{}

func (p pingTrace) AddProducer() qlogwriter.Recorder { return p }
func (p pingTrace) SupportsSchemas(string) bool      { return true }
func (p pingTrace) Close() error                     { return nil }

// RecordEvent looks for a PING in a 1-RTT packet: those of handshakes are probes.
func (p pingTrace) RecordEvent(ev qlogwriter.Event) {
	packet, ok := ev.(qlog.PacketReceived)
	const short = 100 // bytes; PINGs that probe for the MTU are longer
	if !ok || packet.Header.PacketType != qlog.PacketType1RTT || packet.Raw.Length > short {
		return
	}
	for _, frame := range packet.Frames {
		if _, ok := frame.Frame.(*qlog.PingFrame); ok {
			select {
			case p <- struct{}{}:
			default:
			}
		}
	}
}
