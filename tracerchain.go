package tailfin

import (
	"context"
	"sync/atomic"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlogwriter"
)

// A tracerChain is what a tracer of ours needs to leave the embedder's own tracer
// in place: it keeps receiving every event.
type tracerChain struct {
	inner     qlogwriter.Recorder // the embedder's first producer; nil without
	trace     qlogwriter.Trace    // where it came from; nil without
	producers atomic.Int32
}

// putTracer returns conf with the tracer that newTracer makes for each connection
// before conf's own, which newTracer puts into the tracer's chain.
func putTracer(conf *quic.Config, newTracer func(isClient bool) (qlogwriter.Trace, *tracerChain)) *quic.Config {
	conf = conf.Clone()
	users := conf.Tracer
	conf.Tracer = func(ctx context.Context, isClient bool, id quic.ConnectionID) qlogwriter.Trace {
		tracer, chain := newTracer(isClient)
		if users != nil {
			if trace := users(ctx, isClient, id); trace != nil {
				chain.trace, chain.inner = trace, trace.AddProducer()
			}
		}
		return tracer
	}
	return conf
}

// addProducer returns first to quic-go, the first caller, and the embedder's tracer
// to any later one.
func (c *tracerChain) addProducer(first qlogwriter.Recorder) qlogwriter.Recorder {
	if c.producers.Add(1) == 1 {
		return first
	}
	if c.trace != nil {
		return c.trace.AddProducer()
	}
	return discardRecorder{}
}

// pass gives an event to the embedder's tracer.
func (c *tracerChain) pass(ev qlogwriter.Event) {
	if c.inner != nil {
		c.inner.RecordEvent(ev)
	}
}

// end is the end of the connection.
func (c *tracerChain) end() error {
	if c.inner != nil {
		return c.inner.Close()
	}
	return nil
}

// discardRecorder is the producer of a connection whose embedder does not trace.
type discardRecorder struct{}

func (discardRecorder) RecordEvent(qlogwriter.Event) {}
func (discardRecorder) Close() error                 { return nil }
