package natssink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A sweep comes four times in the age at which objects go, and within these.
const (
	minSweepPause = time.Second
	maxSweepPause = 6 * time.Hour
)

// A sweep reads the names of objects in batches.
const (
	sweepBatch = 256
	sweepWait  = 5 * time.Second
)

func (s *Sink) sweeper() {
	pause := min(max(s.cfg.Sweep/4, minSweepPause), maxSweepPause)
	for {
		// Several daemons on one stream do not all sweep at the same time.
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-s.ctx.Done():
			return
		}
		n, err := s.Sweep(s.ctx)
		switch {
		case s.ctx.Err() != nil:
			return
		case err != nil:
			s.log.Warn("sweep of the object store", "bucket", s.cfg.Bucket, "removed", n, "err", err)
		case n > 0:
			s.log.Info("objects removed to which no message refers", "bucket", s.cfg.Bucket, "removed", n)
		}
	}
}

// Sweep removes the objects, whole or in part, that this sink's stream has no
// message for and that are older than the option sweep.
//
// An upload at work has sent a chunk lately, or has not come to its end; then it
// finds its chunks missing at the end, and fails.
func (s *Sink) Sweep(ctx context.Context) (removed int, err error) {
	t, err := s.ready(ctx)
	if err != nil {
		return 0, err
	}
	info, err := t.stream.Info(ctx)
	if err != nil {
		return 0, err
	}
	// The last chunk of each object. It has the object's name and stream.
	last, err := t.bucket.CreateConsumer(ctx, jetstream.ConsumerConfig{
		FilterSubject: chunkSubject(s.cfg.Bucket, "*"), DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy,
		AckPolicy: jetstream.AckNonePolicy, HeadersOnly: true, MemoryStorage: true, InactiveThreshold: time.Minute,
	})
	if err != nil {
		return 0, fmt.Errorf("list the chunks of bucket %s: %w", s.cfg.Bucket, err)
	}
	defer func() { _ = t.bucket.DeleteConsumer(context.WithoutCancel(ctx), last.CachedInfo().Name) }()
	for left := last.CachedInfo().NumPending; left > 0; {
		batch, err := last.Fetch(int(min(left, sweepBatch)), jetstream.FetchMaxWait(sweepWait))
		if err != nil {
			return removed, fmt.Errorf("list the chunks of bucket %s: %w", s.cfg.Bucket, err)
		}
		got := 0
		for msg := range batch.Messages() {
			got++
			ok, err := s.sweepObject(ctx, t, info, msg)
			if err != nil {
				return removed, err
			}
			if ok {
				removed++
			}
		}
		if err := batch.Error(); err != nil || got == 0 {
			return removed, errors.Join(err, ctx.Err())
		}
		left -= min(left, uint64(got))
	}
	return removed, nil
}

// sweepObject removes the object of a chunk if it is to go.
func (s *Sink) sweepObject(ctx context.Context, t *target, info *jetstream.StreamInfo, last jetstream.Msg) (bool, error) {
	meta, err := last.Metadata()
	if err != nil {
		return false, err
	}
	h := last.Headers()
	// The server's clock on both sides.
	if h.Get(headerStream) != s.cfg.Stream || info.TimeStamp.Sub(meta.Timestamp) < s.cfg.Sweep {
		return false, nil
	}
	object, id := h.Get(HeaderObject), last.Subject()[strings.LastIndexByte(last.Subject(), '.')+1:]
	referred, err := s.isReferred(ctx, t, info, h, object)
	if err != nil || referred {
		return false, err
	}
	if err := s.remove(ctx, t, object, id); err != nil {
		return false, fmt.Errorf("remove object %s: %w", object, err)
	}
	s.m.swept.Inc()
	return true, nil
}

// isReferred looks for the message that refers to the object of a chunk with
// headers h. It is published after the object's description was stored, soon or
// never, and behind the sequence that h has.
func (s *Sink) isReferred(ctx context.Context, t *target, info *jetstream.StreamInfo, h nats.Header, object string) (bool, error) {
	description, err := t.bucket.GetLastMsgForSubject(ctx, metaSubject(s.cfg.Bucket, object))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("description of object %s: %w", object, err)
	}
	after, err := strconv.ParseUint(h.Get(headerAfter), 10, 64)
	if err != nil || h.Get(headerCreated) != strconv.FormatInt(info.Created.UnixNano(), 10) {
		after = 0 // the stream was made anew: its numbers began again
	}
	subject := s.cfg.Subject + "." + h.Get(HeaderName)
	for seq := after + 1; ; {
		msg, err := t.stream.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("message %d of subject %s: %w", seq, subject, err)
		}
		if msg.Header.Get(HeaderObject) == object {
			return true, nil
		}
		if msg.Time.Sub(description.Time) > referenceTime {
			return false, nil
		}
		seq = msg.Sequence + 1
	}
}

// referenceTime is longer than an upload takes from the description of its object
// to its message: wait and ack-wait, which are two minutes at most together.
const referenceTime = time.Hour
