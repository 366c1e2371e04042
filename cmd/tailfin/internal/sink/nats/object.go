package natssink

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
)

// chunkSize is the size of all chunks of an object but the last, in bytes: that
// of nats.go. windowSize is how many of one object wait for acknowledgement at
// most, and are kept to be sent again. Together they bound the memory of an
// upload: 1 MiB.
const (
	chunkSize  = 128 << 10
	windowSize = 8
)

// cleanupTime bounds the attempt to remove an object that is of no use. What is
// left is for the sweep.
const cleanupTime = 5 * time.Second

var (
	errOrder = errors.New("chunks of the object were stored out of order")
	chunks   = sync.Pool{New: func() any { return new([chunkSize]byte) }}
)

// storeObject puts the body into the object store and then publishes the message
// that refers to it.
func (s *Sink) storeObject(t *target, up sink.Upload, header nats.Header, body io.Reader) (receipt sink.Receipt, duplicate bool, err error) {
	w, err := s.newObject(t, up)
	if err != nil {
		return receipt, false, err
	}
	if err := w.write(body); err != nil {
		w.discard()
		return receipt, false, err
	}
	s.m.objects.Inc()
	s.m.objectBytes.Add(float64(w.size))
	sum := hex.EncodeToString(w.sum.Sum(nil))
	receipt = sink.Receipt{Name: up.Name, Bytes: w.size, SHA256: sum}
	id := messageID(up, sum)
	if up.Header.Get(idempotencyKey) != "" && s.isLast(t, up.Name, id) {
		w.discard()
		return receipt, true, nil
	}
	setBody(header, BodyObject, w.size, sum)
	header.Set(HeaderBucket, s.cfg.Bucket)
	header.Set(HeaderObject, w.name)
	header.Set(jetstream.MsgIDHeader, id)
	data, err := json.Marshal(Reference{s.cfg.Bucket, w.name, up.Name, w.size, sum})
	if err != nil {
		return receipt, false, err
	}
	start := time.Now()
	ack, sure, err := s.publish(&nats.Msg{Subject: s.cfg.subjectOf(up.Name), Header: header, Data: data}, s.cfg.Stream)
	switch {
	case err != nil && sure:
		w.discard()
		return receipt, false, err
	case err != nil:
		return receipt, false, err // there may be a message that refers to the object
	}
	s.m.seconds.Observe(time.Since(start).Seconds())
	if ack.Duplicate {
		s.settleDuplicate(t, w, ack.Sequence)
	}
	return receipt, ack.Duplicate, nil
}

// isLast tells whether the last message under name has this ID: that upload was
// stored before, perhaps longer ago than the stream's duplicate window.
func (s *Sink) isLast(t *target, name, id string) bool {
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Wait)
	defer cancel()
	last, err := t.stream.GetLastMsgForSubject(ctx, s.cfg.subjectOf(name))
	return err == nil && last.Header.Get(jetstream.MsgIDHeader) == id
}

// settleDuplicate removes the object if the message that was there already
// refers to another one. It may be this very upload's, of an attempt whose
// acknowledgement was lost.
func (s *Sink) settleDuplicate(t *target, w *object, seq uint64) {
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Wait)
	defer cancel()
	first, err := t.stream.GetMsg(ctx, seq)
	if err == nil && first.Header.Get(HeaderObject) != w.name {
		w.discard()
	}
}

// An object is a body on its way into the object store, in the form of ADR-20
// of NATS, so that every client of object stores reads it.
//
// The writer of nats.go is not used: it lets 4,000 chunks be in flight, and after
// "no responders" sends a chunk again behind later ones, with what its only
// buffer holds by then (seen in v1.55.0).
type object struct {
	s      *Sink
	t      *target
	name   string // NAME/ID, so that no upload replaces the object of another
	id     string
	header nats.Header // of each chunk

	window []chunk // sent, not acknowledged; in order
	seq    uint64  // of the last acknowledged chunk in the bucket's stream
	sent   uint32  // chunks
	size   int64
	sum    hash.Hash
}

type chunk struct {
	msg  *nats.Msg
	buf  *[chunkSize]byte
	sent jetstream.PubAckFuture
}

func (s *Sink) newObject(t *target, up sink.Upload) (*object, error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Wait)
	defer cancel()
	// Where the stream ends now: the message will come behind it, which is where the
	// sweep looks.
	info, err := t.stream.Info(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s.target.CompareAndSwap(t, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", s.cfg.Stream, err)
	}
	id := nuid.Next()
	w := &object{s: s, t: t, id: id, name: up.Name + "/" + id, sum: sha256.New()}
	w.header = nats.Header{
		HeaderName:    {Token(up.Name)},
		HeaderObject:  {Token(w.name)},
		headerStream:  {s.cfg.Stream},
		headerCreated: {strconv.FormatInt(info.Created.UnixNano(), 10)},
		headerAfter:   {strconv.FormatUint(info.State.LastSeq, 10)},
	}
	return w, nil
}

func (w *object) chunkSubject() string { return chunkSubject(w.s.cfg.Bucket, w.id) }

func chunkSubject(bucket, id string) string { return "$O." + bucket + ".C." + id }

func metaSubject(bucket, name string) string {
	return "$O." + bucket + ".M." + base64.URLEncoding.EncodeToString([]byte(name))
}

// write stores all of body and the description of the object.
func (w *object) write(body io.Reader) error {
	defer func() {
		for _, c := range w.window {
			chunks.Put(c.buf)
		}
	}()
	size := int(min(chunkSize, w.s.link.nc.MaxPayload()-headerRoom(w.header)))
	for eof := false; !eof; {
		if len(w.window) == windowSize {
			if err := w.settle(); err != nil {
				return err
			}
		}
		buf := chunks.Get().(*[chunkSize]byte)
		n, err := fill(body, buf[:size])
		if err != nil && err != io.EOF { //nolint:errorlint // only the bare io.EOF is the end of a body
			chunks.Put(buf)
			return &bodyError{err}
		}
		if eof = err != nil; n == 0 {
			chunks.Put(buf)
			continue
		}
		if err := w.add(buf, n); err != nil {
			return err
		}
	}
	for len(w.window) > 0 {
		if err := w.settle(); err != nil {
			return err
		}
	}
	if err := w.verify(); err != nil {
		return err
	}
	return w.describe(size)
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

// add sends a chunk. A failure shows when it is settled.
func (w *object) add(buf *[chunkSize]byte, n int) error {
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

// verify asks for the number of chunks: it finds one stored twice because
// it was sent again after the duplicate window, and one that is gone.
func (w *object) verify() error {
	ctx, cancel := context.WithTimeout(w.s.ctx, w.s.cfg.Wait)
	defer cancel()
	info, err := w.t.bucket.Info(ctx, jetstream.WithSubjectFilter(w.chunkSubject()))
	if err != nil {
		return fmt.Errorf("bucket %s: %w", w.s.cfg.Bucket, err)
	}
	if n := info.State.Subjects[w.chunkSubject()]; n != uint64(w.sent) {
		return w.s.unavailable(fmt.Errorf("the object has %d chunks, not %d", n, w.sent))
	}
	return nil
}

// describe publishes the object's description, by which it exists for readers.
func (w *object) describe(size int) error {
	info, err := json.Marshal(jetstream.ObjectInfo{
		ObjectMeta: jetstream.ObjectMeta{
			Name: w.name, Opts: &jetstream.ObjectMetaOptions{ChunkSize: uint32(size)},
			Metadata: map[string]string{"tailfin-stream": w.s.cfg.Stream},
		},
		Bucket: w.s.cfg.Bucket, NUID: w.id, Size: uint64(w.size), Chunks: w.sent,
		Digest: jetstream.GetObjectDigestValue(w.sum),
	})
	if err != nil {
		return err
	}
	msg := nats.NewMsg(metaSubject(w.s.cfg.Bucket, w.name))
	msg.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	msg.Header.Set(jetstream.MsgIDHeader, w.id+"-info")
	msg.Data = info
	_, _, err = w.s.publish(msg, bucketStream(w.s.cfg.Bucket))
	return err
}

// discard removes the object, as far as that can be done now.
func (w *object) discard() {
	ctx, cancel := context.WithTimeout(w.s.ctx, cleanupTime)
	defer cancel()
	if err := w.s.remove(ctx, w.t, w.name, w.id); err != nil {
		w.s.log.Info("an object of no use is left to the sweep", "bucket", w.s.cfg.Bucket, "object", w.name, "err", err)
	}
}

// remove purges description and chunks, in this order, so that no reader finds an
// object without chunks. There is no mark of a deletion, as clients of object
// stores leave it, since the name never comes again.
func (s *Sink) remove(ctx context.Context, t *target, name, id string) error {
	err := t.bucket.Purge(ctx, jetstream.WithPurgeSubject(metaSubject(s.cfg.Bucket, name)))
	if err != nil {
		return err
	}
	return t.bucket.Purge(ctx, jetstream.WithPurgeSubject(chunkSubject(s.cfg.Bucket, id)))
}
