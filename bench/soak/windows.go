package soak

import (
	"sync"
	"time"
)

// windows are the times at which faults were, so that who was lost in one can be told from
// who was lost in none.
type windows struct {
	mu   sync.Mutex
	open map[Kind]time.Time
	past []window // that have ended
}

type window struct {
	begin, end time.Time
	effect     effect
}

const (
	// settle is how long a fault has its effect after its end: a connection that has waited
	// in vain waits twice as long the next time (RFC 9002 §6.2.1).
	settle = 5 * time.Second
	// maxPast is how long windows are remembered: no request takes so long.
	maxPast = 10 * time.Minute
)

// on says that a fault has begun.
func (w *windows) on(k Kind, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open == nil {
		w.open = make(map[Kind]time.Time)
	}
	w.open[k] = now
}

// off says that it has ended.
func (w *windows) off(k Kind, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if begin, ok := w.open[k]; ok {
		delete(w.open, k)
		w.remember(window{begin, now.Add(settle), effects[k]}, now)
	}
}

// dropped says that datagrams were dropped somewhere within the last while.
func (w *windows) dropped(while time.Duration, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.remember(window{now.Add(-while), now, drops}, now)
}

func (w *windows) remember(one window, now time.Time) {
	kept := w.past[:0]
	for _, p := range w.past {
		if now.Sub(p.end) < maxPast {
			kept = append(kept, p)
		}
	}
	w.past = append(kept, one)
}

// worst is the worst effect that there was at some time from begin to end.
func (w *windows) worst(begin, end time.Time) effect {
	w.mu.Lock()
	defer w.mu.Unlock()
	worst := harmless
	for k, at := range w.open {
		if at.Before(end) {
			worst = max(worst, effects[k])
		}
	}
	for _, p := range w.past {
		if p.begin.Before(end) && begin.Before(p.end) {
			worst = max(worst, p.effect)
		}
	}
	return worst
}
