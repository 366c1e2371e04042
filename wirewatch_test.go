package tailfin

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"
)

// A loopHold stops the run loop of a client connection, as its tracer, at a
// packet that a test chooses.
type loopHold struct {
	armed atomic.Pointer[func() bool]
	close atomic.Bool   // hold at a CONNECTION_CLOSE only
	held  chan struct{} // closed when the loop stands still
	let   chan struct{}
	once  sync.Once
	free  sync.Once
}

func newLoopHold() *loopHold {
	return &loopHold{held: make(chan struct{}), let: make(chan struct{})}
}

func (h *loopHold) arm(when func() bool) { h.armed.Store(&when) }
func (h *loopHold) release()             { h.free.Do(func() { close(h.let) }) }

func (h *loopHold) tracer(context.Context, bool, quic.ConnectionID) qlogwriter.Trace { return h }
func (h *loopHold) AddProducer() qlogwriter.Recorder                                 { return h }
func (h *loopHold) Close() error                                                     { return nil }

func (h *loopHold) RecordEvent(ev qlogwriter.Event) {
	received, ok := ev.(qlog.PacketReceived)
	when := h.armed.Load()
	if !ok || when == nil || !(*when)() {
		return
	}
	if h.close.Load() {
		closes := false
		for _, f := range received.Frames {
			_, is := f.Frame.(*qlog.ConnectionCloseFrame)
			closes = closes || is
		}
		if !closes {
			return
		}
	}
	h.once.Do(func() {
		close(h.held)
		<-h.let
	})
}

// TestHandedOverNotSent has a request that is handed to a connection whose run
// loop has just received the peer's close: it never leaves, and so it is sent
// again, although it is a POST and its connection was closed behind it.
func TestHandedOverNotSent(t *testing.T) {
	conns := make(chan *rawPeerConn, 10)
	var requests atomic.Int32
	peer := newRawPeer(t, rawPeerOptions{answer: func(c *rawPeerConn, s *quic.Stream) {
		requestBytes(s)
		requests.Add(1)
		conns <- c
		finish(s, reply("ok"))
	}})
	hold := newLoopHold()
	hold.close.Store(true)
	defer hold.release()
	tr := newTransport(t, &Transport{QUICConfig: &quic.Config{Tracer: hold.tracer}})
	if _, err := fetchFrom(t.Context(), tr, peer.addr, "/"); err != nil {
		t.Fatal(err)
	}
	c := <-conns
	hold.arm(func() bool { return true })
	_ = c.CloseWithError(0x100, "")
	<-hold.held

	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{WroteRequest: func(i httptrace.WroteRequestInfo) {
		if i.Err != nil {
			t.Errorf("not handed over: %v", i.Err)
		}
		hold.release()
	}})
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+peer.addr+"/", nil)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	want(t, string(b), "ok")
	want(t, err, nil)
	want(t, requests.Load(), 2) // of two, none twice
	want(t, len(peer.conns), 2)
}

// TestWireWatch has the events of one stream among others.
func TestWireWatch(t *testing.T) {
	w := &wireWatch{}
	users := newLoopHold()
	trace := w.install(&quic.Config{Tracer: users.tracer}).Tracer(t.Context(), true, quic.ConnectionID{})
	recorder := trace.AddProducer()
	first, second := w.stream(0), w.stream(4)
	recorder.RecordEvent(qlog.PacketSent{Frames: []qlog.Frame{{Frame: &qlog.PingFrame{}}, {Frame: &qlog.StreamFrame{StreamID: 4}}}})
	want(t, first.Load(), false)
	want(t, second.Load(), true)
	w.forget(0)
	recorder.RecordEvent(qlog.PacketSent{Frames: []qlog.Frame{{Frame: &qlog.StreamFrame{StreamID: 0}}}})
	want(t, first.Load(), false)
	want(t, len(w.waiting), 0)
	if trace.AddProducer() != qlogwriter.Recorder(users) {
		t.Error("a later producer is not the user's own")
	}
}
