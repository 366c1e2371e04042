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
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
)

// cleanupTime bounds the attempt to remove an object that is of no use. What is
// left is for the sweep.
const cleanupTime = 5 * time.Second

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
	var last *jetstream.RawStreamMsg
	err := s.ask(s.ctx, func(ctx context.Context) (err error) {
		last, err = t.stream.GetLastMsgForSubject(ctx, s.cfg.subjectOf(name))
		return err
	})
	return err == nil && last.Header.Get(jetstream.MsgIDHeader) == id
}

// settleDuplicate removes the object if the message that was there already
// refers to another one. It may be this very upload's, of an attempt whose
// acknowledgement was lost.
func (s *Sink) settleDuplicate(t *target, w *object, seq uint64) {
	var first *jetstream.RawStreamMsg
	err := s.ask(s.ctx, func(ctx context.Context) (err error) {
		first, err = t.stream.GetMsg(ctx, seq)
		return err
	})
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
	name   string // TOKEN/ID: in ASCII, and no upload replaces the object of another
	id     string
	header nats.Header // of each chunk

	window []chunk // sent, not acknowledged; in order
	seq    uint64  // of the last acknowledged chunk in the bucket's stream
	sent   uint32  // chunks
	size   int64
	sum    hash.Hash
}

func (s *Sink) newObject(t *target, up sink.Upload) (*object, error) {
	// Where the stream ends now: the message will come behind it, which is where the
	// sweep looks.
	var info *jetstream.StreamInfo
	err := s.ask(s.ctx, func(ctx context.Context) (err error) {
		info, err = t.stream.Info(ctx)
		return err
	})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s.target.CompareAndSwap(t, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", s.cfg.Stream, err)
	}
	id := nuid.Next()
	w := &object{s: s, t: t, id: id, name: Token(up.Name) + "/" + id, sum: sha256.New()}
	w.header = nats.Header{
		HeaderName:    {Token(up.Name)},
		HeaderObject:  {w.name},
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
	// One chunk is held back until it is known whether another follows, so that the
	// last is never sent before the end of the body: by its age the sweep tells
	// whether the upload is at work.
	var held *[chunkSize]byte
	heldSize := 0
	for eof := false; !eof; {
		buf := chunks.Get().(*[chunkSize]byte)
		n, err := fill(body, buf[:size])
		if err != nil && err != io.EOF { //nolint:errorlint // only the bare io.EOF is the end of a body
			return &bodyError{err}
		}
		eof = err != nil
		if held != nil {
			if err := w.add(held, heldSize); err != nil {
				return err
			}
		}
		held, heldSize = buf, n
	}
	if heldSize > 0 {
		if err := w.add(held, heldSize); err != nil {
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

// verify asks for the number of chunks: it finds one stored twice because
// it was sent again after the duplicate window, and one that is gone.
func (w *object) verify() error {
	var info *jetstream.StreamInfo
	err := w.s.ask(w.s.ctx, func(ctx context.Context) (err error) {
		info, err = w.t.bucket.Info(ctx, jetstream.WithSubjectFilter(w.chunkSubject()))
		return err
	})
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
	// What is on its way would be stored behind the purge.
	for _, c := range w.window {
		if c.sent != nil {
			_, _ = acked(ctx, c.sent)
		}
	}
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
