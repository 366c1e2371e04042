package logging

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// window is over how long repeats are counted.
const window = time.Second

// maxMessages is how many different messages are counted at a time. Further ones
// are written as they come: messages are constants of the program, and these few.
const maxMessages = 1024

// repeats passes some records of each message on in a window, and at its end one
// that says how many there were more. A flood from the network costs a line a
// second then, and not the disk.
type repeats struct {
	slog.Handler
	state *repeatState
}

// repeatState is shared by a logger and those made of it by With.
type repeatState struct {
	allowed int

	mu   sync.Mutex
	seen map[repeatKey]*repeated
}

type repeatKey struct {
	level   slog.Level
	message string
}

// repeated is one message in its window.
type repeated struct {
	began      time.Time
	written    int
	suppressed int
}

func newRepeats(h slog.Handler, allowed int) slog.Handler {
	return &repeats{h, &repeatState{allowed: allowed, seen: make(map[repeatKey]*repeated)}}
}

// Handle writes r, or counts it.
func (h *repeats) Handle(ctx context.Context, r slog.Record) error {
	if h.state.take(h.Handler, repeatKey{r.Level, r.Message}, r.Time) {
		return h.Handler.Handle(ctx, r)
	}
	return nil
}

// WithAttrs keeps the counts.
func (h *repeats) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &repeats{h.Handler.WithAttrs(attrs), h.state}
}

// WithGroup keeps the counts.
func (h *repeats) WithGroup(name string) slog.Handler {
	return &repeats{h.Handler.WithGroup(name), h.state}
}

// take tells whether to write a record. The first that is not has the window end
// with a line by out.
func (s *repeatState) take(out slog.Handler, key repeatKey, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.seen[key]
	if m == nil || m.suppressed == 0 && now.Sub(m.began) >= window {
		if m == nil && len(s.seen) >= maxMessages && !s.forget(now) {
			return true
		}
		m = &repeated{began: now}
		s.seen[key] = m
	}
	if m.written < s.allowed {
		m.written++
		return true
	}
	if m.suppressed++; m.suppressed == 1 {
		time.AfterFunc(window-now.Sub(m.began), func() { s.end(out, key) })
	}
	return false
}

// end says how many records were not written.
func (s *repeatState) end(out slog.Handler, key repeatKey) {
	s.mu.Lock()
	m := s.seen[key]
	delete(s.seen, key)
	s.mu.Unlock()
	r := slog.NewRecord(time.Now(), key.level, key.message, 0)
	r.AddAttrs(slog.Int("suppressed", m.suppressed))
	_ = out.Handle(context.Background(), r) // there is nobody to tell
}

// forget drops messages whose window is over, and tells whether there were any. The
// caller holds mu.
func (s *repeatState) forget(now time.Time) bool {
	before := len(s.seen)
	for key, m := range s.seen {
		if m.suppressed == 0 && now.Sub(m.began) >= window {
			delete(s.seen, key)
		}
	}
	return len(s.seen) < before
}
