package tailfin

import (
	"sync"
	"sync/atomic"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"
)

// A wireWatch tells which request streams a client connection has sent anything
// of. quic-go (v0.65.0) takes small writes into the stream and returns, so that
// a request can be handed over to a connection that closes before the run loop
// has packed a byte of it; the peer cannot have acted on such a request. Packets
// are reported before they are sent, on the run loop, which is the one that
// handles the close too: what was not reported when the close shows was not sent.
type wireWatch struct {
	mu      sync.Mutex
	waiting map[quic.StreamID]*atomic.Bool // streams of which nothing was sent yet
}

// install returns conf with a tracer that feeds the watch. A tracer that conf
// has already keeps receiving every event.
func (w *wireWatch) install(conf *quic.Config) *quic.Config {
	return putTracer(conf, func(bool) (qlogwriter.Trace, *tracerChain) {
		t := &wireTrace{watch: w}
		return t, &t.chain
	})
}

// stream returns a flag that is set as soon as a packet with data of the stream,
// or its FIN, is about to be sent.
func (w *wireWatch) stream(id quic.StreamID) *atomic.Bool {
	sent := new(atomic.Bool)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting == nil {
		w.waiting = make(map[quic.StreamID]*atomic.Bool)
	}
	w.waiting[id] = sent
	return sent
}

// forget ends the watch of a stream that may never send anything.
func (w *wireWatch) forget(id quic.StreamID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.waiting, id)
}

func (w *wireWatch) packetSent(frames []qlog.Frame) {
	for _, f := range frames {
		f, ok := f.Frame.(*qlog.StreamFrame)
		if !ok {
			continue
		}
		w.mu.Lock()
		if sent := w.waiting[f.StreamID]; sent != nil {
			sent.Store(true)
			delete(w.waiting, f.StreamID)
		}
		w.mu.Unlock()
	}
}

// A wireTrace is a wireWatch as quic-go's tracer of its connection.
type wireTrace struct {
	watch *wireWatch
	chain tracerChain
}

var (
	_ qlogwriter.Trace    = (*wireTrace)(nil)
	_ qlogwriter.Recorder = (*wireTrace)(nil)
)

// AddProducer returns the trace to quic-go, the first caller.
func (t *wireTrace) AddProducer() qlogwriter.Recorder { return t.chain.addProducer(t) }

// RecordEvent is called by quic-go.
func (t *wireTrace) RecordEvent(ev qlogwriter.Event) {
	t.chain.pass(ev)
	if sent, ok := ev.(qlog.PacketSent); ok {
		t.watch.packetSent(sent.Frames)
	}
}

// Close is called by quic-go when the connection is over.
func (t *wireTrace) Close() error { return t.chain.end() }
