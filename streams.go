package tailfin

import (
	"context"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"
)

// peerStream is what the barrier knows of a stream that can still deliver.
type peerStream struct {
	ledger ledger
	recv   *recvStream // nil until the stream was accepted or opened
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

func (b *barrier) streamFrame(f *qlog.StreamFrame) {
	b.mu.Lock()
	s := b.last // most frames are of the stream that the last one was of
	if s == nil || b.lastID != f.StreamID {
		if s = b.streams[f.StreamID]; s == nil {
			if s = b.discover(f.StreamID); s == nil {
				b.mu.Unlock()
				return
			}
		}
		b.last, b.lastID = s, f.StreamID
	}
	s.ledger.add(f.Offset, f.Length, f.Fin)
	recv, contiguous, ended := s.recv, s.ledger.contiguous, s.ledger.ended()
	b.mu.Unlock()
	if recv != nil {
		b.takeAhead(recv, contiguous, ended)
	}
}

// streamReset ends a stream of which nothing more can be had.
func (b *barrier) streamReset(f *qlog.ResetStreamFrame) {
	b.mu.Lock()
	if s := b.streams[f.StreamID]; s != nil && s.recv != nil {
		s.recv.resetBy(f.ErrorCode)
	}
	b.mu.Unlock()
	b.forget(f.StreamID)
}

// takeAhead reads what has arrived of a stream, if that is asked for.
func (b *barrier) takeAhead(recv *recvStream, contiguous int64, ended bool) {
	if b.readAhead > 0 {
		recv.readAhead(contiguous, ended, b.readAhead, time.Now().Add(b.timeout))
	}
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
	recv := newRecvStream(src, &b.ahead, b)
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
	var contiguous int64
	var ended bool
	if s != nil {
		s.recv, contiguous, ended = recv, s.ledger.contiguous, s.ledger.ended()
	}
	b.mu.Unlock()
	b.takeAhead(recv, contiguous, ended)
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
	if b.lastID == id {
		b.last = nil
	}
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
