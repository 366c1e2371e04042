package tailfin

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// earlyTransport is a client that resumes sessions.
func earlyTransport(t *testing.T) *Transport {
	conf := clientTLS(t)
	conf.ClientSessionCache = tls.NewLRUClientSessionCache(10)
	return newTransport(t, &Transport{TLSClientConfig: conf, EarlyData: true})
}

// earlyPeer takes 0-RTT data and answers whether a request came in it.
func earlyPeer(t *testing.T, opts rawPeerOptions) *rawPeer {
	opts.early = true
	if opts.answer == nil {
		opts.answer = func(c *rawPeerConn, s *quic.Stream) {
			requestBytes(s)
			finish(s, reply(fmt.Sprint(c.ConnectionState().Used0RTT)))
		}
	}
	return newRawPeer(t, opts)
}

// leave ends the connection, so that the next request resumes its session. The
// ticket must have come, which quic-go sends when the handshake is done.
func leave(t *testing.T, tr *Transport) {
	t.Helper()
	if c := connOf(tr); c != nil {
		<-c.h3.settingsSeen
	}
	eventually(t, "a session ticket", func() bool {
		s, ok := tr.TLSClientConfig.ClientSessionCache.Get("127.0.0.1")
		return ok && s != nil
	})
	tr.CloseIdleConnections()
	eventually(t, "the connection is closed", func() bool { return connOf(tr) == nil })
}

func TestClientEarlyData(t *testing.T) {
	peer := earlyPeer(t, rawPeerOptions{settings: h3frame.Settings{MaxFieldSectionSize: h3frame.SettingValue(5000)}})
	tr := earlyTransport(t)
	body, err := fetchFrom(t.Context(), tr, peer.addr, "/")
	want(t, body, "false")
	want(t, err, nil)
	leave(t, tr)

	// A request of a safe method goes early.
	body, err = fetchFrom(t.Context(), tr, peer.addr, "/")
	want(t, body, "true")
	want(t, err, nil)
	leave(t, tr)

	// Before SETTINGS have come, those of the session hold.
	c := &clientConn{transport: tr, authority: peer.addr, early: true, h3: &h3conn{settingsSeen: make(chan struct{})}}
	want(t, *c.peerSettings().MaxFieldSectionSize, 5000)
	c.early = false
	want(t, c.peerSettings().MaxFieldSectionSize, nil)
}

// TestEarlyDataIsForSafeMethods has a POST on a connection that could carry 0-RTT
// data: it waits for the handshake.
func TestEarlyDataIsForSafeMethods(t *testing.T) {
	done := make(chan bool, 10)
	peer := earlyPeer(t, rawPeerOptions{answer: func(c *rawPeerConn, s *quic.Stream) {
		requestBytes(s)
		select {
		case <-c.HandshakeComplete():
			done <- true
		default:
			done <- false
		}
		finish(s, reply("ok"))
	}})
	tr := earlyTransport(t)
	if _, err := fetchFrom(t.Context(), tr, peer.addr, "/"); err != nil {
		t.Fatal(err)
	}
	<-done
	leave(t, tr)
	req, _ := http.NewRequest(http.MethodPost, "https://"+peer.addr+"/", strings.NewReader("pay"))
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	want(t, <-done, true)
	want(t, connOf(tr).h3.quic.ConnectionState().Used0RTT, true)
}

// TestTooEarly has a peer that would not act on 0-RTT data (RFC 8470 §5.2).
func TestTooEarly(t *testing.T) {
	var requests, refusals atomic.Int32
	peer := earlyPeer(t, rawPeerOptions{answer: func(c *rawPeerConn, s *quic.Stream) {
		requestBytes(s)
		requests.Add(1)
		if s.StreamID() == 0 && c.ConnectionState().Used0RTT {
			refusals.Add(1)
			finish(s, head(http.StatusTooEarly))
			return
		}
		finish(s, reply("ok"))
	}})
	tr := earlyTransport(t)
	for range 2 {
		body, err := fetchFrom(t.Context(), tr, peer.addr, "/")
		want(t, body, "ok")
		want(t, err, nil)
		leave(t, tr)
	}
	want(t, refusals.Load(), 1)
	want(t, requests.Load(), 3)
}

// TestTooEarlyWithoutEarlyData is an answer like any other.
func TestTooEarlyWithoutEarlyData(t *testing.T) {
	var requests atomic.Int32
	addr := startServer(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.WriteHeader(http.StatusTooEarly)
	})})
	resp, err := earlyTransport(t).RoundTrip(mustRequest(t, http.MethodGet, "https://"+addr+"/"))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	want(t, resp.StatusCode, http.StatusTooEarly)
	want(t, requests.Load(), 1)
}

func mustRequest(t *testing.T, method, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// TestEarlyDataRejected has a peer that resumes the session and refuses 0-RTT
// data: the request is sent again, once.
func TestEarlyDataRejected(t *testing.T) {
	key := [32]byte{7}
	tickets := serverTLS(t)
	tickets.SetSessionTicketKeys([][32]byte{key})
	first := earlyPeer(t, rawPeerOptions{tls: tickets})
	tr := earlyTransport(t)
	if _, err := fetchFrom(t.Context(), tr, first.addr, "/"); err != nil {
		t.Fatal(err)
	}
	leave(t, tr)
	// The ticket is for the host, and so for a peer on another port too, which
	// quic-go rejects 0-RTT data for as its limits are lower.
	var requests atomic.Int32
	second := earlyPeer(t, rawPeerOptions{tls: tickets, quic: &quic.Config{InitialStreamReceiveWindow: 1 << 10, MaxIncomingStreams: 5},
		answer: func(c *rawPeerConn, s *quic.Stream) {
			if _, err := io.ReadAll(s); err != nil {
				return // the end of the stream that was rejected, without the request
			}
			requests.Add(1)
			finish(s, reply(fmt.Sprint(c.ConnectionState().Used0RTT)))
		}})
	body, err := fetchFrom(t.Context(), tr, second.addr, "/")
	want(t, body, "false")
	want(t, err, nil)
	want(t, requests.Load(), 1)
	want(t, connOf(tr) != nil && len(second.conns) == 2, true) // the first was given up
	// The session of the second connection is good for 0-RTT data again.
	leave(t, tr)
	body, err = fetchFrom(t.Context(), tr, second.addr, "/")
	want(t, body, "true")
	want(t, err, nil)
}

// TestResumedSettings has a peer that accepts 0-RTT data and then takes back what
// its SETTINGS had promised.
func TestResumedSettings(t *testing.T) {
	tickets := serverTLS(t)
	tickets.SetSessionTicketKeys([][32]byte{{7}})
	connect := h3frame.Settings{EnableConnectProtocol: true}
	first := earlyPeer(t, rawPeerOptions{tls: tickets, settings: connect})
	tr := earlyTransport(t)
	if _, err := fetchFrom(t.Context(), tr, first.addr, "/"); err != nil {
		t.Fatal(err)
	}
	leave(t, tr)
	second := earlyPeer(t, rawPeerOptions{tls: tickets, answer: silent})
	settings, _ := tr.sessions.get(first.addr)
	tr.sessions.put(second.addr, settings) // the same server, as far as the client knows
	_, err := fetchFrom(t.Context(), tr, second.addr, "/")
	wantAs(t, err, func(e *ConnClosed) bool {
		return e.Application && !e.Remote && e.Code == uint64(h3frame.ErrCodeSettings)
	})
}
