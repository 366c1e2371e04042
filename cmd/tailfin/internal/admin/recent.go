package admin

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/time/rate"
)

const (
	maxText    = 400 // bytes kept of a text that may be a peer's
	maxDetails = 16  // attributes kept of a record
	// recentPerSecond bounds the records a second that are looked at, not only counted.
	recentPerSecond = 100
)

// A LogRecord is what happened, once or several times.
type LogRecord struct {
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
	Level   string    `json:"level"`
	Message string    `json:"message"`
	Details []Detail  `json:"details"` // of the last time
	Count   uint64    `json:"count"`
}

// A Detail is an attribute of a record.
type Detail struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// RecentErrors is a slog.Handler that keeps the last records of Warn and above,
// and hands all on. Records that say the same are one with a count, and no message
// has more than a quarter of the room, so that a flood hides nothing else.
type RecentErrors struct {
	next   slog.Handler
	prefix string   // of attribute names, by groups: "a.b."
	attrs  []Detail // by WithAttrs
	log    *recentLog
}

// recentLog is what a RecentErrors and those made of it share.
type recentLog struct {
	warnings, errors atomic.Uint64
	limit            *rate.Limiter

	mu      sync.Mutex
	max     int
	records []LogRecord // in order of Last
}

var _ slog.Handler = (*RecentErrors)(nil)

// NewRecentErrors keeps n records, and hands those that next is enabled for on to it.
func NewRecentErrors(next slog.Handler, n int) *RecentErrors {
	return &RecentErrors{next: next, log: &recentLog{max: n, limit: rate.NewLimiter(recentPerSecond, recentPerSecond)}}
}

// Enabled is true for Warn and above, and for what the next handler takes.
func (h *RecentErrors) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn || h.next.Enabled(ctx, level)
}

// Handle keeps r if it is one to keep, and hands it on.
func (h *RecentErrors) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		h.keep(r)
	}
	if !h.next.Enabled(ctx, r.Level) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

// WithAttrs is as slog.Handler says.
func (h *RecentErrors) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.next = h.next.WithAttrs(attrs)
	with.attrs = slices.Clone(h.attrs)
	for _, a := range attrs {
		with.attrs = appendDetail(with.attrs, h.prefix, a)
	}
	return &with
}

// WithGroup is as slog.Handler says.
func (h *RecentErrors) WithGroup(name string) slog.Handler {
	with := *h
	with.next = h.next.WithGroup(name)
	if name != "" {
		with.prefix = h.prefix + name + "."
	}
	return &with
}

// Records are those kept, the newest first.
func (h *RecentErrors) Records() []LogRecord {
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	list := slices.Clone(h.log.records)
	slices.Reverse(list)
	return list
}

// Counts are the numbers of records at Warn and at Error and above, since the
// start, kept or not.
func (h *RecentErrors) Counts() (warnings, errors uint64) {
	return h.log.warnings.Load(), h.log.errors.Load()
}

func (h *RecentErrors) keep(r slog.Record) {
	if r.Level >= slog.LevelError {
		h.log.errors.Add(1)
	} else {
		h.log.warnings.Add(1)
	}
	if !h.log.limit.Allow() {
		return
	}
	details := slices.Clone(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		details = appendDetail(details, h.prefix, a)
		return len(details) < maxDetails
	})
	at := r.Time
	if at.IsZero() {
		at = time.Now()
	}
	h.log.add(LogRecord{First: at, Last: at, Level: r.Level.String(), Message: clip(r.Message, maxText), Details: details, Count: 1})
}

func (l *recentLog) add(r LogRecord) {
	l.mu.Lock()
	defer l.mu.Unlock()
	same, oldest := 0, 0 // records with this message, and the first of them
	for i := len(l.records) - 1; i >= 0; i-- {
		old := l.records[i]
		if old.Message != r.Message || old.Level != r.Level {
			continue
		}
		if errorOf(old.Details) == errorOf(r.Details) {
			r.First, r.Count = old.First, old.Count+1
			l.records = append(slices.Delete(l.records, i, i+1), r)
			return
		}
		same, oldest = same+1, i
	}
	switch {
	case same >= max(l.max/4, 1):
		l.records = slices.Delete(l.records, oldest, oldest+1)
	case len(l.records) >= l.max:
		l.records = slices.Delete(l.records, 0, 1)
	}
	l.records = append(l.records, r)
}

// errorOf is what tells two records of one message apart.
func errorOf(details []Detail) string {
	for _, d := range details {
		if d.Key == "err" || d.Key == "error" {
			return d.Value
		}
	}
	return ""
}

// appendDetail adds an attribute, or those of a group.
func appendDetail(list []Detail, prefix string, a slog.Attr) []Detail {
	value := a.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, b := range value.Group() {
			list = appendDetail(list, prefix, b)
		}
		return list
	}
	if len(list) >= maxDetails || a.Equal(slog.Attr{}) {
		return list
	}
	return append(list, Detail{clip(prefix+a.Key, maxText), clip(value.String(), maxText)})
}

// clip is s as valid UTF-8 of n bytes and an ellipsis at most.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
