package tailfin

import (
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"
)

// DefaultHoldGrace is how long HoldCloses holds a close by default.
const DefaultHoldGrace = 5 * time.Millisecond

// HoldStats counts what HoldCloses did. All counts grow only.
type HoldStats struct {
	// Closes is the number of CONNECTION_CLOSE frames that were met, Held of those
	// that were held since stream data had just arrived.
	Closes uint64 `json:"closes"`
	Held   uint64 `json:"held"`
	// Bytes is what had arrived just before the closes that were held, within one to
	// two graces: what was at stake. How much of it had been read by then, or was
	// read within the hold, cannot be seen from outside of quic-go's streams.
	Bytes uint64 `json:"bytes"`
}

// A HoldCounter is the live form of HoldStats.
type HoldCounter struct{ closes, held, bytes atomic.Uint64 }

// Stats returns the counts so far. It may be called at any time.
func (c *HoldCounter) Stats() HoldStats {
	return HoldStats{Closes: c.closes.Load(), Held: c.held.Load(), Bytes: c.bytes.Load()}
}

// HoldCloses is for programs that use quic-go's streams themselves, or
// quic-go/http3, and cannot have their streams drained: it returns conf with a
// tracer that holds the run loop of a connection for grace when a CONNECTION_CLOSE
// comes right behind stream data, and so gives readers that are waiting the time to
// read it. quic-go (v0.65.0) drops what is unread after that.
//
// It helps readers that are quick; Server and Transport, which drain, lose nothing
// of slow ones either. Zero or less is DefaultHoldGrace. A hold delays nothing but
// the end of a connection that is closed already, and the embedder's own tracer
// keeps working.
func HoldCloses(conf *quic.Config, grace time.Duration) (*quic.Config, *HoldCounter) {
	if conf == nil {
		conf = &quic.Config{}
	}
	if grace <= 0 {
		grace = DefaultHoldGrace
	}
	counter := new(HoldCounter)
	return putTracer(conf, func(bool) (qlogwriter.Trace, *tracerChain) {
		h := &closeHolder{grace: grace, counter: counter}
		return h, &h.chain
	}), counter
}

// A closeHolder is the tracer of one connection. Packets are reported on the run
// loop, so that it needs no locks.
type closeHolder struct {
	chain   tracerChain
	grace   time.Duration
	counter *HoldCounter

	start  time.Time // of an interval as long as grace
	bytes  [2]int64  // of stream data in that interval, and in the one before
	closed bool
}

var (
	_ qlogwriter.Trace    = (*closeHolder)(nil)
	_ qlogwriter.Recorder = (*closeHolder)(nil)
)

// AddProducer returns the holder to quic-go, the first caller.
func (h *closeHolder) AddProducer() qlogwriter.Recorder { return h.chain.addProducer(h) }

// RecordEvent is called by quic-go.
func (h *closeHolder) RecordEvent(ev qlogwriter.Event) {
	h.chain.pass(ev)
	received, ok := ev.(qlog.PacketReceived)
	if !ok || h.closed {
		return
	}
	for _, f := range received.Frames {
		switch f := f.Frame.(type) {
		case *qlog.StreamFrame:
			h.arrived(f)
		case *qlog.ConnectionCloseFrame:
			h.closed = true
			h.hold()
			return
		}
	}
}

// Close is called by quic-go when the connection is over.
func (h *closeHolder) Close() error { return h.chain.end() }

func (h *closeHolder) arrived(f *qlog.StreamFrame) {
	h.advance()
	h.bytes[0] += f.Length
	if f.Fin {
		h.bytes[0]++ // it is worth a hold by itself
	}
}

// advance begins a new interval if the current one is over.
func (h *closeHolder) advance() {
	switch now := time.Now(); {
	case now.Sub(h.start) >= 2*h.grace:
		h.start, h.bytes = now, [2]int64{}
	case now.Sub(h.start) >= h.grace:
		h.start, h.bytes = now, [2]int64{0, h.bytes[0]}
	}
}

func (h *closeHolder) hold() {
	h.counter.closes.Add(1)
	h.advance()
	atStake := h.bytes[0] + h.bytes[1]
	if atStake == 0 {
		return
	}
	h.counter.held.Add(1)
	h.counter.bytes.Add(uint64(atStake))
	time.Sleep(h.grace)
}
