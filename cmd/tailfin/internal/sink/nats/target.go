package natssink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A target is stream and bucket as they were found.
type target struct {
	stream, bucket jetstream.Stream
	created        time.Time // of the stream
	maxMessage     int64     // of the stream, in bytes; -1 for no limit
}

// spare is how many bytes a stream must have free to count as not full.
const spare = 4 << 10

func (c *Config) subjectOf(name string) string { return c.Subject + "." + Token(name) }

// bucketStream is the stream below an object store (ADR-20 of NATS).
func bucketStream(bucket string) string { return "OBJ_" + bucket }

// ready finds stream and bucket, or makes them.
func (s *Sink) ready(ctx context.Context) (*target, error) {
	if t := s.target.Load(); t != nil {
		return t, nil
	}
	if err := s.link.await(ctx); err != nil {
		return nil, err
	}
	s.lookup.Lock()
	defer s.lookup.Unlock()
	if t := s.target.Load(); t != nil {
		return t, nil
	}
	ctx, cancel := context.WithTimeout(ctx, min(requestTime, s.cfg.AckWait))
	defer cancel()
	t := &target{}
	var err error
	if t.stream, err = s.findStream(ctx); err != nil {
		return nil, err
	}
	if t.bucket, err = s.findBucket(ctx); err != nil {
		return nil, err
	}
	info := t.stream.CachedInfo()
	t.created, t.maxMessage = info.Created, int64(info.Config.MaxMsgSize)
	for _, found := range []*jetstream.StreamInfo{info, t.bucket.CachedInfo()} {
		if window := found.Config.Duplicates; window < s.cfg.Wait+s.cfg.AckWait {
			return nil, fmt.Errorf("stream %s has a duplicate window of %v, shorter than wait and ack-wait together: run `nats stream edit %s --dupe-window 2m`",
				found.Config.Name, window, found.Config.Name)
		}
	}
	s.target.Store(t)
	return t, nil
}

func (s *Sink) findStream(ctx context.Context) (jetstream.Stream, error) {
	c := s.cfg
	stream, err := s.js.Stream(ctx, c.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if !c.Create {
			return nil, &MissingError{"stream", c.Stream, fmt.Sprintf(
				"run `nats stream add %s --subjects '%s.*' --storage file --dupe-window %v --discard new --defaults`, or add create=1 to the sink's URL", c.Stream, c.Subject, c.Duplicates)}
		}
		stream, err = s.js.CreateStream(ctx, jetstream.StreamConfig{
			Name:        c.Stream,
			Description: "uploads, by tailfin",
			Subjects:    []string{c.Subject + ".*"},
			Storage:     c.Storage,
			Replicas:    c.Replicas,
			MaxAge:      c.MaxAge,
			MaxBytes:    limitOf(c.MaxBytes),
			// Rather refuse an upload than drop one that was acknowledged.
			Discard:    jetstream.DiscardNew,
			Duplicates: c.Duplicates,
		})
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // by another that starts too
			stream, err = s.js.Stream(ctx, c.Stream)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", c.Stream, err)
	}
	takes, err := s.js.StreamNameBySubject(ctx, c.Subject+".name")
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound), err == nil && takes != c.Stream:
		return nil, fmt.Errorf("stream %s does not take the subject %s.*: run `nats stream edit %s --subjects '%s.*'`, or give subject=PREFIX", c.Stream, c.Subject, c.Stream, c.Subject)
	case err != nil:
		return nil, fmt.Errorf("stream of subject %s.*: %w", c.Subject, err)
	}
	return stream, nil
}

func (s *Sink) findBucket(ctx context.Context) (jetstream.Stream, error) {
	c := s.cfg
	bucket, err := s.js.Stream(ctx, bucketStream(c.Bucket))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if !c.Create {
			return nil, &MissingError{"bucket", c.Bucket, fmt.Sprintf("run `nats object add %s`, or add create=1 to the sink's URL", c.Bucket)}
		}
		// An object is older than the message that refers to it, so it must not
		// expire by itself at the same age. The sweep removes it.
		var ttl time.Duration
		if c.MaxAge > 0 && c.Sweep == 0 {
			ttl = c.MaxAge + 24*time.Hour
		}
		_, err = s.js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{
			Bucket: c.Bucket, Description: "bodies of uploads, by tailfin", TTL: ttl,
			MaxBytes: limitOf(c.MaxBytes), Storage: c.Storage, Replicas: c.Replicas,
		})
		if err == nil || errors.Is(err, jetstream.ErrBucketExists) {
			bucket, err = s.js.Stream(ctx, bucketStream(c.Bucket))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", c.Bucket, err)
	}
	return bucket, nil
}

// limitOf gives 0 as the -1 by which JetStream means no limit.
func limitOf(n int64) int64 {
	if n == 0 {
		return -1
	}
	return n
}

// checkTarget tells whether stream and bucket are there and have room.
func (s *Sink) checkTarget(ctx context.Context, t *target) error {
	for _, stream := range []jetstream.Stream{t.stream, t.bucket} {
		info, err := stream.Info(ctx)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			s.target.CompareAndSwap(t, nil)
			_, err = s.ready(ctx) // makes it again, or says how to
		}
		if err != nil {
			return err
		}
		if info == nil {
			continue
		}
		limit := info.Config.MaxBytes
		if limit > 0 && info.Config.Discard == jetstream.DiscardNew && info.State.Bytes+spare > uint64(limit) {
			return &FullError{s.cfg.String(), fmt.Errorf("stream %s has %d of %d bytes: run `nats stream edit %s --max-bytes …`, or remove messages",
				info.Config.Name, info.State.Bytes, limit, info.Config.Name)}
		}
	}
	return nil
}
