package natssink

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
)

// Options are what the URL does not say. The zero value works.
type Options struct {
	Registerer prometheus.Registerer // for metrics; nil for none
	Logger     *slog.Logger          // nil for none
}

// A Sink stores uploads in one stream, and long bodies in one bucket.
type Sink struct {
	cfg  *Config
	log  *slog.Logger
	m    *metrics
	link *link
	js   jetstream.JetStream

	ctx    context.Context // of all work; ends with Close, cause errClosed
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // the sweeper

	lookup sync.Mutex             // held while target is found or made
	target atomic.Pointer[target] // nil until stream and bucket were seen
}

var (
	_ sink.Sink    = (*Sink)(nil)
	_ sink.Fetcher = (*Sink)(nil)
)

// Open connects to the server that a URL names. A server that cannot be reached
// now is no error: uploads are refused with an UnavailableError until it can.
// Credentials that it refuses, and a stream or bucket that is missing, are.
func Open(ctx context.Context, raw string, opts Options) (*Sink, error) {
	cfg, err := ParseURL(raw)
	if err != nil {
		return nil, err
	}
	s := &Sink{cfg: cfg, log: opts.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.m, err = newMetrics(opts.Registerer, s.inFlight); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	if s.link, err = dial(cfg, s.log, s.m); err != nil {
		s.m.unregister()
		return nil, err
	}
	s.js, err = jetstream.New(s.link.nc,
		jetstream.WithPublishAsyncMaxPending(cfg.InFlight),
		jetstream.WithPublishAsyncTimeout(cfg.AckWait))
	if err == nil && s.link.nc.IsConnected() {
		if _, err = s.ready(ctx); err != nil && transient(err) {
			s.log.Warn("JetStream does not answer; uploads are refused with 503 until it does", "sink", cfg.String(), "err", err)
			err = nil
		}
	}
	if err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("sink %s: %w", cfg, err)
	}
	if cfg.Sweep > 0 {
		s.wg.Go(s.sweeper)
	}
	return s, nil
}

func (s *Sink) inFlight() float64 {
	if s.js == nil {
		return 0
	}
	return float64(s.js.PublishAsyncPending())
}

// Store publishes an upload and waits for the acknowledgement.
//
// The end of the context does not stop it, since that of a request ends when its
// client leaves, and what the client sent whole is to be stored. What bounds it
// are body, which fails if the client leaves before its end, the options wait and
// ack-wait, and Close.
func (s *Sink) Store(_ context.Context, up sink.Upload, body io.Reader) (sink.Receipt, error) {
	if err := sink.CheckName(up.Name); err != nil {
		return sink.Receipt{}, err
	}
	receipt, duplicate, err := s.store(up, body)
	var cut *bodyError
	if errors.As(err, &cut) {
		return sink.Receipt{}, cut.err // nothing of ours
	}
	err = s.wrap(err)
	s.m.count(duplicate, err)
	if err != nil {
		return sink.Receipt{}, err
	}
	return receipt, nil
}

func (s *Sink) store(up sink.Upload, body io.Reader) (receipt sink.Receipt, duplicate bool, err error) {
	var t *target
	err = s.ask(s.ctx, func(ctx context.Context) (err error) {
		t, err = s.ready(ctx)
		return err
	})
	switch {
	case err != nil && !full(err):
		return receipt, false, s.unavailable(err) // whatever it is: the upload is welcome once it is put right
	case err != nil:
		return receipt, false, err
	}
	header := s.cfg.header(up)
	limit := s.inlineLimit(t, header)
	if up.Length > limit {
		return s.storeObject(t, up, header, body)
	}
	var buf bytes.Buffer
	if up.Length > 0 {
		buf.Grow(int(up.Length) + bytes.MinRead)
	}
	n, err := buf.ReadFrom(io.LimitReader(body, limit+1))
	switch {
	case err != nil:
		return receipt, false, &bodyError{err}
	case n > limit:
		return s.storeObject(t, up, header, io.MultiReader(&buf, body))
	}
	sum := sha256.Sum256(buf.Bytes())
	receipt = sink.Receipt{Name: up.Name, Bytes: n, SHA256: hex.EncodeToString(sum[:])}
	setBody(header, BodyInline, n, receipt.SHA256)
	header.Set(jetstream.MsgIDHeader, messageID(up, receipt.SHA256))
	start := time.Now()
	ack, _, err := s.publish(&nats.Msg{Subject: s.cfg.subjectOf(up.Name), Header: header, Data: buf.Bytes()}, s.cfg.Stream)
	if err != nil {
		return receipt, false, err
	}
	s.m.seconds.Observe(time.Since(start).Seconds())
	return receipt, ack.Duplicate, nil
}

// inlineLimit is the longest body that fits into a message with header.
func (s *Sink) inlineLimit(t *target, header nats.Header) int64 {
	room := headerRoom(header)
	limit := min(s.cfg.Inline, s.link.nc.MaxPayload()-room)
	if t.maxMessage > 0 {
		limit = min(limit, t.maxMessage-room)
	}
	return max(limit, 0)
}

// Check asks the server for stream and bucket.
func (s *Sink) Check(ctx context.Context) error {
	if !s.link.nc.IsConnected() {
		return s.unavailable(s.link.lost(ctx))
	}
	t, err := s.ready(ctx)
	if err == nil {
		err = s.checkTarget(ctx, t)
	}
	return s.wrap(err)
}

// Close ends what is at work, with an UnavailableError, and the connection.
func (s *Sink) Close() error {
	s.cancel(errClosed)
	s.wg.Wait()
	s.link.nc.Close()
	s.m.unregister()
	return nil
}

// bodyError is an error of the body that is stored, not of the sink.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }
