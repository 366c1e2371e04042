package tailfin

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"

	"github.com/tailfin-quic/tailfin/bench/peer"
)

// planNumbers is how many packet numbers a plan has to itself: by them the packets of a
// connection tell which plan it is of.
const planNumbers = 1 << 10

// arrivals knows which packets of plans QUIC has handled.
type arrivals struct {
	mu   sync.Mutex
	logs map[uint64]*arrivalLog
}

func newArrivals() *arrivals { return &arrivals{logs: make(map[uint64]*arrivalLog)} }

// of returns the log of a plan's connection.
func (a *arrivals) of(id uint64) *arrivalLog {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.logs[id]
	if l == nil {
		l = &arrivalLog{closed: make(chan struct{})}
		a.logs[id] = l
	}
	return l
}

func (a *arrivals) forget(id uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.logs, id)
}

// config returns conf with a tracer that keeps the logs.
func (a *arrivals) config(conf quic.Config) *quic.Config {
	conf.Tracer = func(context.Context, bool, quic.ConnectionID) qlogwriter.Trace { return &arrivalTrace{all: a} }
	return &conf
}

// An arrivalLog is what QUIC has handled of a plan.
type arrivalLog struct {
	closed chan struct{} // when a CONNECTION_CLOSE was handled, or we have left

	mu      sync.Mutex
	over    bool
	numbers []int // of packets, in the order in which they were handled
}

// An arrivalTrace is the tracer of a connection. quic-go reports packets that it has
// handled on the run loop, those that it drops otherwise.
type arrivalTrace struct {
	all *arrivals
	log *arrivalLog // nil until a packet of a plan has come; of the run loop
}

func (a *arrivalTrace) AddProducer() qlogwriter.Recorder { return a }
func (a *arrivalTrace) SupportsSchemas(string) bool      { return true }

// Close is the end of the connection, perhaps by our own doing.
func (a *arrivalTrace) Close() error {
	if l := a.log; l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.end()
	}
	return nil
}

func (a *arrivalTrace) RecordEvent(ev qlogwriter.Event) {
	packet, ok := ev.(qlog.PacketReceived)
	if !ok || packet.Header.PacketType != qlog.PacketType1RTT || packet.Header.PacketNumber < peer.FirstNumber {
		return
	}
	n := uint64(packet.Header.PacketNumber - peer.FirstNumber)
	if a.log == nil {
		a.log = a.all.of(n / planNumbers)
	}
	l := a.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	l.numbers = append(l.numbers, int(n%planNumbers))
	for _, f := range packet.Frames {
		if _, ok := f.Frame.(*qlog.ConnectionCloseFrame); ok {
			l.end()
			return
		}
	}
}

// end is the end of what counts. The caller holds mu.
func (l *arrivalLog) end() {
	if !l.over {
		l.over = true
		close(l.closed)
	}
}

// handled returns the packets, once no more can come.
func (l *arrivalLog) handled(t *testing.T) ([]int, error) {
	select {
	case <-l.closed:
	case <-time.After(orderPatience):
		return nil, errors.New("no close has arrived")
	case <-t.Context().Done():
		return nil, t.Context().Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.numbers, nil
}
