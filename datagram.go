package tailfin

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// A Datagrammer sends and receives the HTTP datagrams of one request (RFC 9297).
// They may be lost, come in another order, or come twice.
type Datagrammer interface {
	// SendDatagram sends p, which must fit into one QUIC packet: about 1,200 bytes,
	// else the error is a *quic.DatagramTooLargeError. It waits for the peer's
	// SETTINGS and while quic-go's queue is full. Its error matches
	// http.ErrNotSupported if either side has not enabled datagrams.
	SendDatagram(p []byte) error
	// ReceiveDatagram waits for the next datagram. Datagrams that arrived before
	// the request ended come first, its error after them.
	ReceiveDatagram(ctx context.Context) ([]byte, error)
}

// ErrNoDatagrams is returned by a Datagrammer if one side of the connection has not
// enabled HTTP datagrams. It matches http.ErrNotSupported.
var ErrNoDatagrams = fmt.Errorf("tailfin: HTTP datagrams are not enabled by both sides: %w", http.ErrNotSupported)

// errDatagramsClosed meets a Datagrammer whose request is over.
var errDatagramsClosed = fmt.Errorf("tailfin: datagram of a request that is over: %w", net.ErrClosed)

// DatagramsOf returns the datagrams of the request that w answers. Like
// http.ResponseController it looks through wrappers that have an Unwrap method.
func DatagramsOf(w http.ResponseWriter) (Datagrammer, error) {
	if d, ok := unwrapTo[Datagrammer](w); ok {
		return d, nil
	}
	return nil, ErrNoDatagrams
}

// datagramQueueLen is how many datagrams of one request wait for ReceiveDatagram.
const datagramQueueLen = 64

// datagramCounters count the datagrams of all connections of a Server or Transport.
type datagramCounters struct {
	received atomic.Uint64 // that belonged to a request
	sent     atomic.Uint64
	dropped  atomic.Uint64 // the oldest of a full queue
	strays   atomic.Uint64 // of no request at work
}

// A datagramMux hands the datagrams of one connection to its requests, and sends
// theirs. Both ends of a connection have the same one.
type datagramMux struct {
	quic     *quic.Conn
	counters *datagramCounters
	ready    <-chan struct{} // closed when the peer's SETTINGS have arrived
	allowed  func() bool     // valid then: the peer accepts datagrams

	mu    sync.Mutex
	flows map[quic.StreamID]*datagramFlow
	err   error // what ended the connection
}

func newDatagramMux(c *h3conn, counters *datagramCounters) *datagramMux {
	return &datagramMux{
		quic:     c.quic,
		counters: counters,
		ready:    c.settingsSeen,
		allowed:  func() bool { return c.peerSettings().H3Datagram },
		flows:    make(map[quic.StreamID]*datagramFlow),
	}
}

// receive hands out datagrams until the connection is over. Its error is nil then,
// else a violation by the peer.
func (m *datagramMux) receive() error {
	for {
		b, err := m.quic.ReceiveDatagram(context.Background())
		if err != nil {
			m.close(err)
			return nil
		}
		id, payload, err := h3frame.ParseDatagram(b)
		if err != nil {
			return err
		}
		m.mu.Lock()
		flow := m.flows[quic.StreamID(id)]
		m.mu.Unlock()
		if flow == nil {
			// Its stream is done, or its packet was overtaken. RFC 9297 §2.1 permits
			// to hold it for a while; the memory is not worth it.
			m.counters.strays.Add(1)
			continue
		}
		m.counters.received.Add(1)
		if !flow.push(payload) {
			m.counters.dropped.Add(1)
		}
	}
}

// open makes the datagrams of a request known, so that those that come are kept
// until ctx ends or close is called.
func (m *datagramMux) open(ctx context.Context, id quic.StreamID) *datagramFlow {
	f := &datagramFlow{mux: m, id: id, ctx: ctx, arrived: make(chan struct{}, 1), over: make(chan struct{})}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.flows[id] = f
	if m.err != nil {
		f.end(m.err)
	}
	return f
}

// close ends all that is open with the connection.
func (m *datagramMux) close(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
	for _, f := range m.flows {
		f.end(err)
	}
}

// A datagramFlow is the Datagrammer of one request.
type datagramFlow struct {
	mux     *datagramMux
	id      quic.StreamID
	ctx     context.Context // of the stream: ended by the peer or with the connection
	arrived chan struct{}   // capacity 1
	over    chan struct{}   // closed by end

	mu    sync.Mutex
	queue [][]byte // at most datagramQueueLen
	err   error    // set before over is closed
}

var _ Datagrammer = (*datagramFlow)(nil)

// push queues a datagram. It reports false if the oldest had to go for it: what
// comes as datagrams is worth less the older it is.
func (f *datagramFlow) push(p []byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	room := len(f.queue) < datagramQueueLen
	if !room {
		f.queue = f.queue[1:]
	}
	f.queue = append(f.queue, p)
	select {
	case f.arrived <- struct{}{}:
	default:
	}
	return room
}

func (f *datagramFlow) pop() ([]byte, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.queue) == 0 {
		return nil, false
	}
	p := f.queue[0]
	f.queue = f.queue[1:]
	if len(f.queue) > 0 {
		select { // for another receiver that waits
		case f.arrived <- struct{}{}:
		default:
		}
	}
	return p, true
}

// end makes err the answer to whoever waits for a datagram, once.
func (f *datagramFlow) end(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
		close(f.over)
	}
}

// close ends the flow with its request.
func (f *datagramFlow) close() {
	f.mux.mu.Lock()
	delete(f.mux.flows, f.id)
	f.mux.mu.Unlock()
	f.end(errDatagramsClosed)
}

// SendDatagram is Datagrammer's.
func (f *datagramFlow) SendDatagram(p []byte) error {
	select {
	case <-f.over:
		return f.reason()
	default:
	}
	select {
	case <-f.mux.ready:
	case <-f.over:
		return f.reason()
	case <-f.ctx.Done():
		return f.reason()
	}
	if !f.mux.allowed() {
		return ErrNoDatagrams
	}
	b := h3frame.AppendDatagram(make([]byte, 0, len(p)+8), uint64(f.id), p)
	if err := f.mux.quic.SendDatagram(b); err != nil {
		return classify(err, Progress{Phase: PhaseBody})
	}
	f.mux.counters.sent.Add(1)
	return nil
}

// ReceiveDatagram is Datagrammer's.
func (f *datagramFlow) ReceiveDatagram(ctx context.Context) ([]byte, error) {
	for {
		if p, ok := f.pop(); ok {
			return p, nil
		}
		select {
		case <-f.arrived:
		case <-f.over:
			return f.last()
		case <-f.ctx.Done():
			return f.last()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// last returns what has arrived before the end, or the end.
func (f *datagramFlow) last() ([]byte, error) {
	if p, ok := f.pop(); ok {
		return p, nil
	}
	return nil, f.reason()
}

// reason is what ended the flow: its own end, or that of its stream.
func (f *datagramFlow) reason() error {
	f.mu.Lock()
	err := f.err
	f.mu.Unlock()
	if err == nil {
		err = context.Cause(f.ctx)
	}
	return classify(err, Progress{Phase: PhaseBody})
}
