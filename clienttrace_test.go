package tailfin

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"strings"
	"sync"
	"testing"

	"github.com/quic-go/quic-go"
)

// traceLog is the order in which hooks were called.
type traceLog struct {
	mu    sync.Mutex
	calls []string
	got   httptrace.GotConnInfo
}

func (l *traceLog) add(call string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, call)
}

// take returns the calls so far, and forgets them.
func (l *traceLog) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := strings.Join(l.calls, " ")
	l.calls = nil
	return s
}

func (l *traceLog) hooks() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { l.add("GetConn") },
		GotConn: func(i httptrace.GotConnInfo) {
			l.mu.Lock()
			l.got = i
			l.mu.Unlock()
			l.add("GotConn")
		},
		PutIdleConn: func(err error) {
			if err != nil {
				l.add("PutIdleConn!")
				return
			}
			l.add("PutIdleConn")
		},
		GotFirstResponseByte: func() { l.add("GotFirstResponseByte") },
		Got100Continue:       func() { l.add("Got100Continue") },
		Got1xxResponse:       func(int, textproto.MIMEHeader) error { l.add("Got1xxResponse"); return nil },
		DNSStart:             func(httptrace.DNSStartInfo) { l.add("DNSStart") },
		DNSDone:              func(httptrace.DNSDoneInfo) { l.add("DNSDone") },
		ConnectStart:         func(string, string) { l.add("ConnectStart") },
		ConnectDone:          func(_, _ string, err error) { l.add("ConnectDone" + failed(err)) },
		TLSHandshakeStart:    func() { l.add("TLSHandshakeStart") },
		TLSHandshakeDone:     func(_ tls.ConnectionState, err error) { l.add("TLSHandshakeDone" + failed(err)) },
		WroteHeaders:         func() { l.add("WroteHeaders") },
		Wait100Continue:      func() { l.add("Wait100Continue") },
		WroteRequest:         func(i httptrace.WroteRequestInfo) { l.add("WroteRequest" + failed(i.Err)) },
	}
}

func failed(err error) string {
	if err != nil {
		return "!"
	}
	return ""
}

// TestTraceHooks has every hook in its place, on a new connection and on one that
// is used again.
func TestTraceHooks(t *testing.T) {
	peer := newRawPeer(t, rawPeerOptions{answer: func(_ *rawPeerConn, s *quic.Stream) {
		requestBytes(s)
		finish(s, head(100), reply("ok"))
	}})
	port := peer.addr[strings.LastIndex(peer.addr, ":"):]
	tr := newTransport(t, &Transport{Resolver: resolverFunc(func(string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	})})
	var log traceLog
	ctx := httptrace.WithClientTrace(t.Context(), log.hooks())
	for _, tc := range []struct {
		reused bool
		want   string
	}{
		{false, "GetConn DNSStart DNSDone ConnectStart TLSHandshakeStart TLSHandshakeDone ConnectDone GotConn " +
			"WroteHeaders WroteRequest GotFirstResponseByte Got1xxResponse Got100Continue PutIdleConn"},
		{true, "GetConn GotConn WroteHeaders WroteRequest GotFirstResponseByte Got1xxResponse Got100Continue PutIdleConn"},
	} {
		if _, err := fetchFrom(ctx, tr, "localhost"+port, "/"); err != nil {
			t.Fatal(err)
		}
		want(t, log.take(), tc.want)
		want(t, log.got.Reused, tc.reused)
		want(t, log.got.WasIdle, tc.reused)
		want(t, log.got.IdleTime > 0, tc.reused)
		want(t, log.got.Conn.RemoteAddr().String(), peer.addr)
		if _, err := log.got.Conn.Read(nil); err == nil {
			t.Error("a traced connection can be read")
		}
	}
}

// TestTraceOfFailures has hooks that are given errors.
func TestTraceOfFailures(t *testing.T) {
	addr := startServer(t, &Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })})
	var log traceLog
	ctx := httptrace.WithClientTrace(t.Context(), log.hooks())
	if _, err := fetchFrom(ctx, newTransport(t, &Transport{TLSClientConfig: &tls.Config{}}), addr, "/"); err == nil {
		t.Fatal("a certificate of nobody's was accepted")
	}
	want(t, log.take(), "GetConn ConnectStart TLSHandshakeStart TLSHandshakeDone! ConnectDone!")

	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+addr+"/", &failingReader{errors.New("disk on fire")})
	if _, err := newTransport(t, &Transport{}).RoundTrip(req); err == nil {
		t.Fatal("a request without its body was sent")
	}
	eventually(t, "WroteRequest with an error", func() bool { return strings.Contains(log.take(), "WroteRequest!") })
}
