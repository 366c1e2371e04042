package natssink

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// chunkSize is the size of all chunks of an object but the last, in bytes: that
// of nats.go. windowSize is how many of one object wait for acknowledgement at
// most, and are kept to be sent again. Together they bound the memory of an
// upload, with the one being read and the one held back: 1.25 MiB.
const (
	chunkSize  = 128 << 10
	windowSize = 8
)

var (
	errOrder = errors.New("chunks of the object were stored out of order")
	chunks   = sync.Pool{New: func() any { return new([chunkSize]byte) }}
)

type chunk struct {
	msg  *nats.Msg
	buf  *[chunkSize]byte
	sent jetstream.PubAckFuture
}

// fill reads until p is full or body ends. io.ReadFull would not tell a body that
// ends early from one that fails with io.ErrUnexpectedEOF.
func fill(body io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = body.Read(p[n:])
		n += m
	}
	return n, err
}

// add sends a chunk, when there is room in the window. A failure to send shows
// when it is settled.
func (w *object) add(buf *[chunkSize]byte, n int) error {
	if len(w.window) == windowSize {
		if err := w.settle(); err != nil {
			return err
		}
	}
	w.sum.Write(buf[:n])
	w.size += int64(n)
	header := make(nats.Header, len(w.header)+2)
	for name, values := range w.header {
		header[name] = values
	}
	header.Set(jetstream.MsgIDHeader, w.id+"-"+strconv.FormatUint(uint64(w.sent), 10))
	w.sent++
	c := chunk{buf: buf, msg: &nats.Msg{Subject: w.chunkSubject(), Header: header, Data: buf[:n]}}
	w.window = append(w.window, c)
	if last := len(w.window) - 1; last == 0 || w.window[last-1].sent != nil {
		// A chunk never overtakes one that could not be sent.
		sent, err := w.s.send(w.s.ctx, c.msg, bucketStream(w.s.cfg.Bucket))
		if err != nil && !transient(err) {
			return err
		}
		w.window[last].sent = sent
	}
	return nil
}

// settle waits until the oldest chunk is acknowledged, and sends all of the
// window again if need be: in order, so that what JetStream takes first of each
// chunk is in order too, and it drops the rest by their IDs.
func (w *object) settle() error {
	ctx, cancel := context.WithTimeout(w.s.ctx, w.s.cfg.Wait+w.s.cfg.AckWait)
	defer cancel()
	again := patience{wait: w.s.cfg.Wait}
	for {
		err := error(jetstream.ErrAsyncPublishTimeout)
		var ack *jetstream.PubAck
		if sent := w.window[0].sent; sent != nil {
			ack, err = acked(ctx, sent)
		}
		if err == nil {
			return w.pop(ack)
		}
		w.window[0].sent = nil // it gives its error once
		if err := again.pause(ctx, err); err != nil {
			return err
		}
		if err := w.resend(ctx); err != nil && !transient(err) {
			return err
		}
	}
}

func (w *object) resend(ctx context.Context) error {
	for i := range w.window {
		w.window[i].sent = nil
	}
	for i := range w.window {
		sent, err := w.s.send(ctx, w.window[i].msg, bucketStream(w.s.cfg.Bucket))
		if err != nil {
			return err
		}
		w.s.m.resent.Inc()
		w.window[i].sent = sent
	}
	return nil
}

// pop takes the oldest chunk out of the window. Its place in the stream must be
// behind the one before: a chunk lost with a connection and one after it sent on the
// next would be swapped.
func (w *object) pop(ack *jetstream.PubAck) error {
	if ack.Sequence <= w.seq {
		return w.s.unavailable(errOrder)
	}
	w.seq = ack.Sequence
	chunks.Put(w.window[0].buf)
	w.window = append(w.window[:0], w.window[1:]...)
	return nil
}
