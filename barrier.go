package tailfin

import (
	"context"
	"math"
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

// quicConn is the part of *quic.Conn that the barrier uses.
type quicConn interface {
	AcceptStream(context.Context) (*quic.Stream, error)
	AcceptUniStream(context.Context) (*quic.ReceiveStream, error)
}

// A barrier is the tracer of one connection and the place where its streams
// are accepted. With drains unset it is not installed as a tracer, and only
// hands streams through.
type barrier struct {
	chain     tracerChain
	isClient  bool
	drains    bool
	timeout   time.Duration
	counters  *drainCounters
	guard     *resetGuard // of the socket; nil without
	limits    [2]int64    // streams the peer may have open: bidirectional, unidirectional
	readAhead int64       // bytes of each stream to read as they arrive
	window    int64       // the largest that the connection's flow control window grows to
	perStream int64       // the same of a stream's

	conn  quicConn      // set before bound is closed
	bound chan struct{} // closed by bind

	yields yielder // of the run loop

	handshake *handshake     // of a server's connection, until it is complete; may be nil
	dropped   *atomic.Uint64 // see drainOptions
	useless   uselessFrames

	closing  atomic.Bool   // a CONNECTION_CLOSE from the peer was met
	resets   atomic.Int32  // stateless resets that are kept back
	received atomic.Uint64 // packets
	ahead    atomic.Int64  // bytes in the spills of all streams

	mu       sync.Mutex
	idle     idleWatch
	tokens   []resetToken // stateless reset tokens of the peer, oldest first
	streams  map[quic.StreamID]*peerStream
	last     *peerStream                  // of the last STREAM frame, nil if it is not in streams any more
	lastID   quic.StreamID                // of last
	unseen   [2]quic.StreamID             // the lowest stream the peer has not used yet, by kind
	bidi     []acceptedStream             // accepted by a drain, not yet handed out
	uni      []*recvStream                // the same
	endSent  map[quic.StreamID]endWatcher // see onEnd
	closed   bool                         // by quic-go: nothing is sent any more
	arrivals chan struct{}                // capacity 1; a stream was adopted
}

func newBarrier(isClient bool, opts drainOptions, conf *quic.Config) *barrier {
	b := &barrier{
		isClient:  isClient,
		drains:    !opts.disabled,
		timeout:   opts.timeout,
		counters:  opts.counters,
		guard:     opts.guard,
		dropped:   opts.dropped,
		readAhead: int64(opts.readAhead),
		window:    defaultWindow,
		perStream: defaultMaxStreamWindow,
		idle:      idleWatch{timeout: defaultIdleTimeout},
		limits:    [2]int64{100, 100}, // quic-go's defaults
		bound:     make(chan struct{}),
		streams:   make(map[quic.StreamID]*peerStream),
		arrivals:  make(chan struct{}, 1),
	}
	if conf != nil {
		b.configure(conf)
	}
	for kind := range b.unseen {
		b.unseen[kind] = firstPeerStream(kind, isClient)
	}
	if b.timeout <= 0 {
		b.timeout = DefaultDrainTimeout
	}
	return b
}

// configure takes what matters to a barrier from a connection's configuration.
func (b *barrier) configure(conf *quic.Config) {
	if conf.MaxIncomingStreams > 0 {
		b.limits[kindBidi] = conf.MaxIncomingStreams
	}
	if conf.MaxIncomingUniStreams > 0 {
		b.limits[kindUni] = conf.MaxIncomingUniStreams
	}
	if conf.MaxConnectionReceiveWindow > 0 {
		b.window = int64(min(conf.MaxConnectionReceiveWindow, math.MaxInt64))
	}
	if conf.MaxStreamReceiveWindow > 0 {
		b.perStream = int64(min(conf.MaxStreamReceiveWindow, math.MaxInt32))
	}
	if conf.MaxIdleTimeout > 0 {
		b.idle.timeout = conf.MaxIdleTimeout
	}
}

// drainOptions is how a Server or a Transport configures its barriers.
type drainOptions struct {
	disabled  bool
	timeout   time.Duration
	counters  *drainCounters
	readAhead int            // bytes a stream
	guard     *resetGuard    // of the socket that the connections are on; nil without
	dropped   *atomic.Uint64 // counts packets of connections that quic-go drops; may be nil
}

// install returns conf with a tracer that puts a barrier under every
// connection. A tracer that conf has already keeps receiving every event.
func (o drainOptions) install(conf *quic.Config) *quic.Config {
	if o.disabled {
		return conf
	}
	return putTracer(conf, func(isClient bool) (qlogwriter.Trace, *tracerChain) {
		b := newBarrier(isClient, o, conf)
		return b, &b.chain
	})
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

// AddProducer returns the barrier to quic-go, the first caller.
func (b *barrier) AddProducer() qlogwriter.Recorder { return b.chain.addProducer(b) }

// RecordEvent is called by quic-go: on the run loop for received packets, from
// other goroutines too for the rest.
func (b *barrier) RecordEvent(ev qlogwriter.Event) {
	b.chain.pass(ev)
	switch ev := ev.(type) {
	case qlog.PacketReceived:
		b.received.Add(1)
		b.packetReceived(ev.Frames)
		if !b.isClient {
			b.useless.packet(ev.Frames)
			b.yields.received(ev.Frames)
		}
	case qlog.PacketSent:
		b.yields.sent()
		b.packetSent(ev.Frames)
	case qlog.PacketDropped:
		if b.dropped != nil {
			b.dropped.Add(1)
		}
	case qlog.ConnectionStateUpdated:
		if ev.State == qlog.ConnectionStateHandshakeComplete {
			b.handshake.end(true)
		}
	case qlog.ParametersSet:
		b.parameters(ev)
	}
}

// Close is called by quic-go when the connection is over.
func (b *barrier) Close() error {
	b.handshake.end(false)
	b.stopIdleWatch()
	b.unwatchTokens()
	b.unwatchAll()
	return b.chain.end()
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
			b.streamReset(f)
		case *qlog.NewConnectionIDFrame:
			b.watchToken(f.StatelessResetToken)
		case *qlog.ConnectionCloseFrame:
			if b.closing.CompareAndSwap(false, true) {
				b.drain(time.Now().Add(b.timeout))
			}
			return
		}
	}
}

// An endWatcher is told when the end of a stream, its FIN or a RESET_STREAM in its
// place, was handed to the send queue in a packet, or with false that the connection
// is over and it never will be. It is told once, on the run loop: it must not wait.
type endWatcher interface{ endSent(sent bool) }

// onEnd has w told of the end of a stream. quic-go (v0.65.0) offers no other word of
// it, and a CloseWithError that comes earlier sends no FIN at all. It reports false,
// and w is not told, if the connection is over.
func (b *barrier) onEnd(id quic.StreamID, w endWatcher) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	if b.endSent == nil {
		b.endSent = make(map[quic.StreamID]endWatcher)
	}
	b.endSent[id] = w
	return true
}

// unwatchEnd takes back an onEnd, if the endWatcher has not been told yet.
func (b *barrier) unwatchEnd(id quic.StreamID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.endSent, id)
}

// A sentSignal is closed when the end was sent.
type sentSignal chan struct{}

func (s sentSignal) endSent(sent bool) {
	if sent {
		close(s)
	}
}

// watchEnd is onEnd for one who waits: the channel is closed when the end was sent.
func (b *barrier) watchEnd(id quic.StreamID) <-chan struct{} {
	s := make(sentSignal)
	b.onEnd(id, s)
	return s
}

func (b *barrier) packetSent(frames []qlog.Frame) {
	for _, f := range frames {
		switch f := f.Frame.(type) {
		case *qlog.StreamFrame:
			if f.Fin {
				b.ended(f.StreamID)
			}
		case *qlog.ResetStreamFrame:
			b.ended(f.StreamID)
		}
	}
}

// ended tells who watches a stream that its end is on its way.
func (b *barrier) ended(id quic.StreamID) {
	b.mu.Lock()
	w := b.endSent[id]
	delete(b.endSent, id)
	b.mu.Unlock()
	if w != nil {
		w.endSent(true)
	}
}

// unwatchAll tells who still watches that nothing is sent any more.
func (b *barrier) unwatchAll() {
	b.mu.Lock()
	b.closed = true
	rest := b.endSent
	b.endSent = nil
	b.mu.Unlock()
	for _, w := range rest {
		w.endSent(false)
	}
}
