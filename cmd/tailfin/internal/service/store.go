package service

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/config"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/receiver"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
	natssink "github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink/nats"
)

// A store is what becomes of requests: a receiver over a sink, or a gateway.
type store struct {
	name    string // URL without credentials
	handler atomic.Pointer[http.Handler]
	check   func(context.Context) error
	close   func() error
	reopen  func() error
	// setMaxBody has later requests meet another limit.
	setMaxBody func(int64)

	failing atomic.Pointer[error] // by the last check; nil if it passed
}

// ServeHTTP answers one request.
func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	(*s.handler.Load()).ServeHTTP(w, r)
}

// openStore opens what --sink names.
func (d *daemon) openStore(ctx context.Context) error {
	s := &store{
		name:   d.conf.SinkName(),
		reopen: func() error { return nil },
	}
	open := d.openSink
	if d.conf.SinkKind() == config.Gateway {
		open = d.openGateway
	}
	if err := open(ctx, s); err != nil {
		return err
	}
	d.store = s
	d.onClose(func() {
		if err := s.close(); err != nil {
			d.log.Warn("closing the sink", "sink", s.name, "err", err)
		}
	})
	return nil
}

func (d *daemon) openSink(ctx context.Context, s *store) error {
	c := d.conf
	opened, err := sink.Open(ctx, c.Sink, sink.Options{
		Logger: d.log, Registerer: d.reg, Kinds: []sink.Kind{natsKind},
		Resume: sink.ResumeLimits{MaxAge: c.PartialKeep, MaxUploads: c.PartialMax, MaxBytes: int64(c.PartialMaxBytes)},
		NDJSON: sink.NDJSONOptions{Headers: c.RecordHeader, MaxInline: int(c.RecordInline), BodyDir: c.RecordBodies},
	})
	if err != nil {
		return c.Wrong("sink", s.name, err, sinkRemedy(c.SinkKind(), err))
	}
	s.check, s.close = opened.Check, opened.Close
	if f, ok := opened.(sink.Fetcher); ok && c.PartialKeep == 0 {
		opened = struct { // without what keeps interrupted uploads
			sink.Sink
			sink.Fetcher
		}{opened, f}
	}
	if r, ok := opened.(sink.Reopener); ok {
		s.reopen = r.Reopen
	}
	metrics := receiver.NewMetrics(d.reg)
	s.setMaxBody = func(n int64) {
		var h http.Handler = &receiver.Handler{Sink: opened, MaxBody: n, Metrics: metrics}
		s.handler.Store(&h)
	}
	s.setMaxBody(int64(c.MaxBody))
	return nil
}

// sinkRemedy says what to give for a sink that could not be opened, unless the error
// says so itself.
func sinkRemedy(kind config.Kind, err error) string {
	var wrong *natssink.ConfigError
	var missing *natssink.MissingError
	switch {
	case errors.As(err, &wrong), errors.As(err, &missing):
		return ""
	case kind == config.NATS:
		return "are the server and the credentials the right ones? `nats server check connection` tells"
	case kind == config.NDJSON:
		return "give ndjson:FILE in a folder that this user may write, or ndjson:- for standard output"
	}
	return "give dir:DIR with a folder that this user may write, or another sink"
}

// checkEvery is how often the sink is asked, and checkTime how long it has for the
// answer.
const (
	checkEvery = 2 * time.Second
	checkTime  = time.Second
)

// watch asks the sink now and then whether it works until ctx ends, and logs when
// that changes.
func (s *store) watch(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	failed := false
	for {
		bounded, cancel := context.WithTimeout(ctx, checkTime)
		err := s.check(bounded)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.failing.Store(&err)
			if !failed {
				log.Error("the sink takes no uploads", "sink", s.name, "err", err)
			}
		} else {
			s.failing.Store(nil)
			if failed {
				log.Info("the sink takes uploads again", "sink", s.name)
			}
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// state is the result of the last check.
func (s *store) state(context.Context) error {
	if err := s.failing.Load(); err != nil {
		return *err
	}
	return nil
}
