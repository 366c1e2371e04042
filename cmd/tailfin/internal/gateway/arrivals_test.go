package gateway

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"
)

// arrivals are what has come of the first answer on each connection to an upstream,
// as QUIC has taken it off the wire.
type arrivals struct {
	mu   sync.Mutex
	list []*arrival
}

// trace is quic.Config.Tracer.
func (a *arrivals) trace(context.Context, bool, quic.ConnectionID) qlogwriter.Trace {
	one := &arrival{}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = append(a.list, one)
	return one
}

// whole is the number of connections whose answer came whole.
func (a *arrivals) whole() int32 {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := int32(0)
	for _, one := range a.list {
		if one.whole() {
			n++
		}
	}
	return n
}

// An arrival is one answer: the tracer of its connection.
type arrival struct {
	mu     sync.Mutex
	pieces [][2]int64 // from, to
	fin    bool
	size   int64
}

func (a *arrival) AddProducer() qlogwriter.Recorder { return a }
func (a *arrival) SupportsSchemas(string) bool      { return true }
func (a *arrival) Close() error                     { return nil }

func (a *arrival) RecordEvent(ev qlogwriter.Event) {
	packet, ok := ev.(qlog.PacketReceived)
	if !ok {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, frame := range packet.Frames {
		s, ok := frame.Frame.(*qlog.StreamFrame)
		if !ok || s.StreamID != 0 {
			continue
		}
		a.pieces = append(a.pieces, [2]int64{s.Offset, s.Offset + s.Length})
		if s.Fin {
			a.fin, a.size = true, s.Offset+s.Length
		}
	}
}

func (a *arrival) whole() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	slices.SortFunc(a.pieces, func(p, q [2]int64) int { return cmp.Compare(p[0], q[0]) })
	upTo := int64(0)
	for _, p := range a.pieces {
		if p[0] > upTo {
			return false
		}
		upTo = max(upTo, p[1])
	}
	return a.fin && upTo == a.size
}
