package tailfin

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"
)

// The drain barrier.
//
// quic-go (v0.65.0) drops what it has received and nobody has read yet at the
// moment its run loop handles CONNECTION_CLOSE. The barrier gets in between
// without touching quic-go: a connection with a tracer reports each packet on
// the run loop, after its STREAM frames went to their streams and before a
// CONNECTION_CLOSE in it takes effect. On seeing one, the barrier reads every
// stream empty, there and then:
//
//	handleFrames: STREAM frames to their streams
//	        │
//	        ▼
//	RecordEvent(PacketReceived)  ── CONNECTION_CLOSE among the frames? ──▶ drain
//	        │                                                              │
//	        ▼                                                              ▼
//	streams closed, unread bytes dropped                     recvStream.spill, read later
//
// The run loop waits meanwhile, so nothing else can arrive or be dropped. No
// stream lock is held at that point and reads make progress.

// DefaultDrainTimeout bounds one drain. A drain takes microseconds, since it
// reads only what has arrived; the bound is for an application that holds a
// stream it does not return from.
const DefaultDrainTimeout = time.Second

// DrainStats counts what the barrier did. All counts grow only.
type DrainStats struct {
	// Closes is the number of CONNECTION_CLOSE frames that the barrier met.
	Closes uint64 `json:"closes"`
	// Streams is the number of streams that had something unread at a close.
	Streams uint64 `json:"streams"`
	// Bytes is the number of stream bytes that a close would have dropped.
	Bytes uint64 `json:"bytes"`
	// Unaccepted is the number of streams that nobody had accepted at a close.
	Unaccepted uint64 `json:"unaccepted"`
	// TimedOut is the number of drains that met their deadline, and so may
	// have lost bytes.
	TimedOut uint64 `json:"timed_out"`
}

// drainCounters is the live form of DrainStats.
type drainCounters struct {
	closes, streams, bytes, unaccepted, timedOut atomic.Uint64
}

func (c *drainCounters) snapshot() DrainStats {
	return DrainStats{
		Closes:     c.closes.Load(),
		Streams:    c.streams.Load(),
		Bytes:      c.bytes.Load(),
		Unaccepted: c.unaccepted.Load(),
		TimedOut:   c.timedOut.Load(),
	}
}

// peerStream is what the barrier knows of a stream that can still deliver.
type peerStream struct {
	ledger ledger
	recv   *recvStream // nil until the stream was accepted or opened
}

// quicConn is the part of *quic.Conn that the barrier uses.
type quicConn interface {
	AcceptStream(context.Context) (*quic.Stream, error)
	AcceptUniStream(context.Context) (*quic.ReceiveStream, error)
}

// A barrier is the tracer of one connection and the place where its streams
// are accepted. With drains unset it is not installed as a tracer, and only
// hands streams through.
type barrier struct {
	inner    qlogwriter.Recorder // the embedder's own tracer; may be nil
	trace    qlogwriter.Trace    // where inner came from; may be nil
	isClient bool
	drains   bool
	timeout  time.Duration
	counters *drainCounters
	limits   [2]int64 // streams the peer may have open: bidirectional, unidirectional

	conn  quicConn      // set before bound is closed
	bound chan struct{} // closed by bind

	closing   atomic.Bool // a CONNECTION_CLOSE from the peer was met
	producers atomic.Int32

	mu       sync.Mutex
	streams  map[quic.StreamID]*peerStream
	unseen   [2]quic.StreamID // the lowest stream the peer has not used yet, by kind
	bidi     []acceptedStream // accepted by a drain, not yet handed out
	uni      []*recvStream    // the same
	finSent  map[quic.StreamID]chan struct{}
	arrivals chan struct{} // capacity 1; a stream was adopted
}

// acceptedStream is a bidirectional stream and its receiving side.
type acceptedStream struct {
	quic *quic.Stream
	recv *recvStream
}

// Kinds of streams, as indexes; the second bit of a stream ID (RFC 9000 §2.1).
const (
	kindBidi = 0
	kindUni  = 1
)

func kindOf(id quic.StreamID) int { return int(id>>1) & 1 }

// firstPeerStream is the lowest stream ID that the peer may use.
func firstPeerStream(kind int, isClient bool) quic.StreamID {
	id := quic.StreamID(kind << 1)
	if isClient {
		id |= 1 // the peer is the server
	}
	return id
}

func newBarrier(isClient bool, opts drainOptions, conf *quic.Config) *barrier {
	b := &barrier{
		isClient: isClient,
		drains:   !opts.disabled,
		timeout:  opts.timeout,
		counters: opts.counters,
		limits:   [2]int64{100, 100}, // quic-go's defaults
		bound:    make(chan struct{}),
		streams:  make(map[quic.StreamID]*peerStream),
		arrivals: make(chan struct{}, 1),
	}
	if conf != nil && conf.MaxIncomingStreams > 0 {
		b.limits[kindBidi] = conf.MaxIncomingStreams
	}
	if conf != nil && conf.MaxIncomingUniStreams > 0 {
		b.limits[kindUni] = conf.MaxIncomingUniStreams
	}
	for kind := range b.unseen {
		b.unseen[kind] = firstPeerStream(kind, isClient)
	}
	if b.timeout <= 0 {
		b.timeout = DefaultDrainTimeout
	}
	return b
}

// drainOptions is how a Server or a Transport configures its barriers.
type drainOptions struct {
	disabled bool
	timeout  time.Duration
	counters *drainCounters
}

// install returns conf with a tracer that puts a barrier under every
// connection. A tracer that conf has already keeps receiving every event.
func (o drainOptions) install(conf *quic.Config) *quic.Config {
	if o.disabled {
		return conf
	}
	conf = conf.Clone()
	users := conf.Tracer
	conf.Tracer = func(ctx context.Context, isClient bool, id quic.ConnectionID) qlogwriter.Trace {
		b := newBarrier(isClient, o, conf)
		if users != nil {
			if trace := users(ctx, isClient, id); trace != nil {
				b.trace, b.inner = trace, trace.AddProducer()
			}
		}
		return b
	}
	return conf
}

// barrierOf returns the barrier under conn, bound to it. Without a tracer it
// makes one that hands streams through.
func barrierOf(conn *quic.Conn, isClient bool, opts drainOptions) *barrier {
	b, ok := conn.QlogTrace().(*barrier)
	if !ok {
		opts.disabled = true
		b = newBarrier(isClient, opts, nil)
	}
	b.conn = conn
	close(b.bound)
	return b
}

var (
	_ qlogwriter.Trace    = (*barrier)(nil)
	_ qlogwriter.Recorder = (*barrier)(nil)
)

// AddProducer returns the barrier to quic-go, the first caller, and the
// embedder's tracer to any later one.
func (b *barrier) AddProducer() qlogwriter.Recorder {
	if b.producers.Add(1) == 1 {
		return b
	}
	if b.trace != nil {
		return b.trace.AddProducer()
	}
	return discardRecorder{}
}

// discardRecorder is the producer of a connection whose embedder does not trace.
type discardRecorder struct{}

func (discardRecorder) RecordEvent(qlogwriter.Event) {}
func (discardRecorder) Close() error                 { return nil }

// RecordEvent is called by quic-go: on the run loop for received packets, from
// other goroutines too for the rest.
func (b *barrier) RecordEvent(ev qlogwriter.Event) {
	if b.inner != nil {
		b.inner.RecordEvent(ev)
	}
	switch ev := ev.(type) {
	case qlog.PacketReceived:
		b.packetReceived(ev.Frames)
	case qlog.PacketSent:
		b.packetSent(ev.Frames)
	}
}

// Close is called by quic-go when the connection is over.
func (b *barrier) Close() error {
	if b.inner != nil {
		return b.inner.Close()
	}
	return nil
}

// packetReceived keeps the ledgers, and drains at a CONNECTION_CLOSE. Frames
// behind it in the packet are reported but were not handled, so that counting
// them would make the drain wait for bytes that never come.
func (b *barrier) packetReceived(frames []qlog.Frame) {
	for _, f := range frames {
		switch f := f.Frame.(type) {
		case *qlog.StreamFrame:
			b.streamFrame(f)
		case *qlog.ResetStreamFrame:
			b.forget(f.StreamID)
		case *qlog.ConnectionCloseFrame:
			if b.closing.CompareAndSwap(false, true) {
				b.drain(time.Now().Add(b.timeout))
			}
			return
		}
	}
}

func (b *barrier) streamFrame(f *qlog.StreamFrame) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.streams[f.StreamID]
	if s == nil {
		if s = b.discover(f.StreamID); s == nil {
			return
		}
	}
	s.ledger.add(f.Offset, f.Length, f.Fin)
}

// discover makes the entries of a peer's stream met for the first time and of
// the lower ones it opens with it (RFC 9000 §2.1). It returns nil for a stream
// that is done with, of ours, or beyond the limit. The caller holds mu.
func (b *barrier) discover(id quic.StreamID) *peerStream {
	kind := kindOf(id)
	if id&1 != firstPeerStream(kind, b.isClient)&1 || id < b.unseen[kind] {
		return nil
	}
	if int64(id-b.unseen[kind])/4 >= b.limits[kind] {
		return nil // quic-go ends the connection for this
	}
	for ; b.unseen[kind] <= id; b.unseen[kind] += 4 {
		b.streams[b.unseen[kind]] = &peerStream{}
	}
	return b.streams[id]
}

// adopt makes the receiving side of a stream known to the barrier.
func (b *barrier) adopt(src quicReceiver) *recvStream {
	id := src.StreamID()
	recv := newRecvStream(src, func() { b.forget(id) })
	if !b.drains {
		return recv
	}
	b.mu.Lock()
	s := b.streams[id]
	if s == nil {
		// A stream of ours, or one that quic-go opened implicitly.
		if s = b.discover(id); s == nil && id&1 != firstPeerStream(kindOf(id), b.isClient)&1 {
			s = &peerStream{}
			b.streams[id] = s
		}
	}
	if s != nil {
		s.recv = recv
	}
	b.mu.Unlock()
	select {
	case b.arrivals <- struct{}{}:
	default:
	}
	return recv
}

// nextRequest is the lowest bidirectional stream of which nothing has arrived.
func (b *barrier) nextRequest() quic.StreamID {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.unseen[kindBidi]
}

// forget drops a stream of which nothing more is wanted.
func (b *barrier) forget(id quic.StreamID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.streams[id]; ok {
		delete(b.streams, id)
		return
	}
	// Done before its first frame was reported: keep discover from making it.
	// Lower streams it implies are made as usual.
	if b.discover(id) != nil {
		delete(b.streams, id)
	}
}

// acceptStream returns the peer's next bidirectional stream: quic-go's, or one
// that a drain accepted at the close.
func (b *barrier) acceptStream(ctx context.Context) (acceptedStream, error) {
	str, err := b.conn.AcceptStream(ctx)
	if err == nil {
		return acceptedStream{str, b.adopt(str)}, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.bidi) == 0 {
		return acceptedStream{}, err
	}
	s := b.bidi[0]
	b.bidi = b.bidi[1:]
	return s, nil
}

// acceptUniStream is acceptStream for unidirectional streams.
func (b *barrier) acceptUniStream(ctx context.Context) (*recvStream, error) {
	str, err := b.conn.AcceptUniStream(ctx)
	if err == nil {
		return b.adopt(str), nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.uni) == 0 {
		return nil, err
	}
	s := b.uni[0]
	b.uni = b.uni[1:]
	return s, nil
}

// drain empties every stream. It runs on the run loop, once.
func (b *barrier) drain(deadline time.Time) {
	b.counters.closes.Add(1)
	unread := b.unread()
	if len(unread) == 0 {
		return
	}
	// Counted before anything waits: what the close would have dropped.
	b.counters.streams.Add(uint64(len(unread)))
	for _, s := range unread {
		b.counters.bytes.Add(uint64(s.missing))
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	// A connection may be closed before anyone accepted it. Its run loop being
	// here keeps it open until someone does.
	select {
	case <-b.bound:
	case <-timer.C:
		b.counters.timedOut.Add(1)
		return
	}
	b.acceptQueued()
	for {
		waiting := false
		for _, s := range b.unread() {
			if s.recv == nil {
				waiting = true // between quic-go's accept and our adopt
				continue
			}
			if !s.recv.drain(s.contiguous, s.ended, deadline) {
				b.counters.timedOut.Add(1)
				return
			}
		}
		if !waiting {
			return
		}
		select {
		case <-b.arrivals:
		case <-timer.C:
			b.counters.timedOut.Add(1)
			return
		}
	}
}

// unreadStream is a stream with something to drain, as of one look.
type unreadStream struct {
	recv       *recvStream
	contiguous int64
	missing    int64 // contiguous bytes that nobody has read
	ended      bool
}

// unread lists the streams that have received more than was read from them.
func (b *barrier) unread() []unreadStream {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []unreadStream
	for _, s := range b.streams {
		read := int64(0)
		if s.recv != nil {
			read = s.recv.offset.Load()
		}
		// A stream whose end was read is not in the map any more.
		missing := max(0, s.ledger.contiguous-read)
		if missing > 0 || s.ledger.ended() {
			list = append(list, unreadStream{s.recv, s.ledger.contiguous, missing, s.ledger.ended()})
		}
	}
	return list
}

// acceptQueued takes the streams that quic-go holds for an accept that comes
// too late. With a cancelled context AcceptStream returns what is queued and
// does not wait (quic-go v0.65.0).
func (b *barrier) acceptQueued() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for {
		str, err := b.conn.AcceptStream(ctx)
		if err != nil {
			break
		}
		recv := b.adopt(str)
		b.counters.unaccepted.Add(1)
		b.mu.Lock()
		b.bidi = append(b.bidi, acceptedStream{str, recv})
		b.mu.Unlock()
	}
	for {
		str, err := b.conn.AcceptUniStream(ctx)
		if err != nil {
			break
		}
		recv := b.adopt(str)
		b.counters.unaccepted.Add(1)
		b.mu.Lock()
		b.uni = append(b.uni, recv)
		b.mu.Unlock()
	}
}

// watchFIN returns a channel that is closed once a packet with the FIN of the
// stream was handed to the send queue. quic-go (v0.65.0) offers no other word
// of it, and a CloseWithError that comes earlier sends no FIN at all.
func (b *barrier) watchFIN(id quic.StreamID) <-chan struct{} {
	ch := make(chan struct{})
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.finSent == nil {
		b.finSent = make(map[quic.StreamID]chan struct{})
	}
	b.finSent[id] = ch
	return ch
}

func (b *barrier) packetSent(frames []qlog.Frame) {
	for _, f := range frames {
		f, ok := f.Frame.(*qlog.StreamFrame)
		if !ok || !f.Fin {
			continue
		}
		b.mu.Lock()
		if ch := b.finSent[f.StreamID]; ch != nil {
			close(ch)
			delete(b.finSent, f.StreamID)
		}
		b.mu.Unlock()
	}
}
