package natssink

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
)

// Open returns what was stored last under name. An object is read chunk by chunk,
// so that one chunk of it is in memory; a seek forward walks over the chunks
// between.
func (s *Sink) Open(ctx context.Context, name string) (sink.Object, error) {
	if err := sink.CheckName(name); err != nil {
		return sink.Object{}, err
	}
	obj, err := s.open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return sink.Object{}, err
	}
	return obj, s.wrap(err)
}

func (s *Sink) open(ctx context.Context, name string) (sink.Object, error) {
	var last *jetstream.RawStreamMsg
	err := s.ask(ctx, func(wait context.Context) error {
		t, err := s.ready(wait)
		if err == nil {
			last, err = t.stream.GetLastMsgForSubject(wait, s.cfg.subjectOf(name))
		}
		return err
	})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return sink.Object{}, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	if err != nil {
		return sink.Object{}, err
	}
	if last.Header.Get(HeaderBody) != BodyObject {
		return sink.Object{ReadSeekCloser: inline{bytes.NewReader(last.Data)}, Modified: last.Time}, nil
	}
	var ref Reference
	if err := json.Unmarshal(last.Data, &ref); err != nil {
		return sink.Object{}, fmt.Errorf("message %d of stream %s: %w", last.Sequence, s.cfg.Stream, err)
	}
	var r *objectReader
	err = s.ask(ctx, func(wait context.Context) (err error) {
		r, err = s.openObject(ctx, wait, ref)
		return err
	})
	if err != nil {
		return sink.Object{}, fmt.Errorf("object %s of bucket %s: %w", ref.Object, ref.Bucket, err)
	}
	return sink.Object{ReadSeekCloser: r, Modified: last.Time}, nil
}

type inline struct{ *bytes.Reader }

func (inline) Close() error { return nil }

// openObject makes a reader that lives as long as ctx. It is found within wait.
func (s *Sink) openObject(ctx, wait context.Context, ref Reference) (*objectReader, error) {
	if !streamName.MatchString(ref.Bucket) {
		return nil, errors.New("the name of the bucket is not valid")
	}
	bucket, err := s.js.Stream(wait, bucketStream(ref.Bucket))
	if err != nil {
		return nil, err
	}
	msg, err := bucket.GetLastMsgForSubject(wait, metaSubject(ref.Bucket, ref.Object))
	if err != nil {
		return nil, err
	}
	var info jetstream.ObjectInfo
	if err := json.Unmarshal(msg.Data, &info); err != nil {
		return nil, err
	}
	if info.Opts == nil || info.Opts.ChunkSize == 0 || int64(info.Size) != ref.Size {
		return nil, errors.New("the description of the object is not the one that was stored")
	}
	return &objectReader{
		ctx: ctx, s: s, bucket: bucket, subject: chunkSubject(ref.Bucket, info.NUID),
		size: ref.Size, chunkSize: int64(info.Opts.ChunkSize), want: ref.SHA256, sum: sha256.New(), at: -1,
	}, nil
}

// An objectReader reads an object that this sink wrote: its chunks have one size,
// but for the last.
type objectReader struct {
	ctx       context.Context
	s         *Sink
	bucket    jetstream.Stream
	subject   string
	size      int64
	chunkSize int64

	pos  int64
	seqs []uint64 // of the chunks seen so far
	data []byte   // of chunk at
	at   int64    // -1 before the first

	want   string
	sum    hash.Hash
	summed int64 // chunks in sum
}

func (r *objectReader) Read(p []byte) (int, error) {
	if r.pos >= r.size {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	if i := r.pos / r.chunkSize; i != r.at {
		if err := r.load(i); err != nil {
			return 0, fmt.Errorf("chunk %d of %s: %w", i, r.subject, err)
		}
	}
	n := copy(p, r.data[r.pos%r.chunkSize:])
	r.pos += int64(n)
	return n, nil
}

// Seek moves; it reads nothing.
func (r *objectReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return r.pos, fmt.Errorf("seek to %d: %w", offset, fs.ErrInvalid)
	}
	r.pos = offset
	return offset, nil
}

func (r *objectReader) Close() error { return nil }

// load gets chunk i, by way of those before it that were not seen yet.
func (r *objectReader) load(i int64) error {
	for r.at = -1; ; {
		seen := int64(len(r.seqs))
		k, seq := min(i, seen), uint64(1)
		switch {
		case k < seen:
			seq = r.seqs[k]
		case seen > 0:
			seq = r.seqs[seen-1] + 1
		}
		msg, err := r.get(seq)
		if err != nil {
			return err
		}
		if int64(len(msg.Data)) != min(r.chunkSize, r.size-k*r.chunkSize) {
			return fmt.Errorf("has %d bytes", len(msg.Data))
		}
		if k == seen {
			r.seqs = append(r.seqs, msg.Sequence)
		}
		if err := r.check(k, msg.Data); err != nil {
			return err
		}
		if k == i {
			r.data, r.at = msg.Data, i
			return nil
		}
	}
}

// check compares the sum once every chunk was read, before the last is given
// out.
func (r *objectReader) check(k int64, data []byte) error {
	if k != r.summed {
		return nil
	}
	r.sum.Write(data)
	if r.summed++; r.summed*r.chunkSize < r.size {
		return nil
	}
	if got := hex.EncodeToString(r.sum.Sum(nil)); got != r.want {
		return fmt.Errorf("the object has SHA-256 %s, not %s", got, r.want)
	}
	return nil
}

// A replica that answers may be behind the leader for a moment.
const (
	replicaTries = 5
	replicaPause = 100 * time.Millisecond
)

func (r *objectReader) get(seq uint64) (*jetstream.RawStreamMsg, error) {
	for try := 1; ; try++ {
		ctx, cancel := context.WithTimeout(r.ctx, min(requestTime, r.s.cfg.AckWait))
		msg, err := r.bucket.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(r.subject))
		cancel()
		if err == nil || !errors.Is(err, jetstream.ErrMsgNotFound) || try == replicaTries {
			return msg, err
		}
		select {
		case <-time.After(replicaPause):
		case <-r.ctx.Done():
			return nil, r.ctx.Err()
		}
	}
}
