package tailfin

import (
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// TestRequestBody has a body that is taken from a try that goes on for a while.
func TestRequestBody(t *testing.T) {
	body := &closeChecker{Reader: strings.NewReader("once")}
	first := &requestBody{body: body}
	got, ok := first.reclaim()
	want(t, ok, true)
	if _, err := first.Read(make([]byte, 1)); !errors.Is(err, ErrBodyClosed) {
		t.Errorf("a try that has failed reads on: %v", err)
	}
	_ = first.Close()
	want(t, body.isClosed(), false)

	second := &requestBody{body: got}
	b, err := io.ReadAll(second)
	want(t, string(b), "once")
	want(t, err, nil)
	if _, ok := second.reclaim(); ok {
		t.Error("a body that was read was taken for fresh")
	}
	_ = second.Close()
	want(t, body.isClosed(), true)
	want(t, (*requestBody)(nil).Close(), nil)
}

// TestCloseEndsDialing has a Transport that is closed while it dials.
func TestCloseEndsDialing(t *testing.T) {
	tr := newTransport(t, &Transport{})
	result := make(chan error, 1)
	addr := silentAddr(t)
	go func() {
		_, err := fetchFrom(t.Context(), tr, addr, "/")
		result <- err
	}()
	eventually(t, "the socket is open", func() bool {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		return tr.socket != nil
	})
	want(t, tr.Close(), nil)
	err := <-result
	wantAs[*DialError](t, err, nil)
	want(t, OutcomeOf(err).MarksUnsupported, false) // it says nothing of the peer
}

// TestLeavesRejectingConn has a peer whose first connection rejects every request, as
// one that shuts down and whose GOAWAY is late.
func TestLeavesRejectingConn(t *testing.T) {
	var mu sync.Mutex
	var first *rawPeerConn
	p := newRawPeer(t, rawPeerOptions{answer: func(conn *rawPeerConn, s *quic.Stream) {
		requestBytes(s)
		mu.Lock()
		if first == nil {
			first = conn
		}
		rejecting := conn == first
		mu.Unlock()
		if rejecting {
			s.CancelWrite(quic.StreamErrorCode(h3frame.ErrCodeRequestRejected))
			return
		}
		finish(s, reply("taken"))
	}})
	tr := newTransport(t, &Transport{})
	for range 3 {
		body, err := fetchFrom(t.Context(), tr, p.addr, "/")
		want(t, err, nil)
		want(t, body, "taken")
	}
	want(t, len(p.conns), 2)
}
