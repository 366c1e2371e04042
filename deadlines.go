package tailfin

import (
	"sync"
	"time"
)

// deadlines keep apart the deadline that the reader has set, one for the next bytes
// of a body, and the one that a drain needs on the same stream while it lasts.
type deadlines struct {
	mu     sync.Mutex
	reader time.Time
	idle   time.Time
	lent   bool // a drain's deadline is on the stream; the others come back after it
}

// first is the earlier of the reader's and the idle one. The caller holds mu.
func (d *deadlines) first() time.Time {
	if d.reader.IsZero() || !d.idle.IsZero() && d.idle.Before(d.reader) {
		return d.idle
	}
	return d.reader
}

// apply puts the first on the stream, unless a drain has it. The caller holds mu.
func (d *deadlines) apply(src quicReceiver) error {
	if d.lent {
		return nil
	}
	return src.SetReadDeadline(d.first())
}

func (d *deadlines) set(src quicReceiver, t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reader = t
	return d.apply(src)
}

// setIdle sets the deadline for the next bytes. The zero value is none.
func (d *deadlines) setIdle(src quicReceiver, t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.idle = t
	_ = d.apply(src)
}

// idled tells that it is the idle deadline that has passed, and not the reader's.
func (d *deadlines) idled() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	first := d.first()
	return !first.IsZero() && first.Equal(d.idle) && !time.Now().Before(first)
}

func (d *deadlines) passed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	first := d.first()
	return !first.IsZero() && !time.Now().Before(first)
}

func (d *deadlines) lend(src quicReceiver, drain time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lent = true
	_ = src.SetReadDeadline(drain)
}

func (d *deadlines) giveBack(src quicReceiver) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lent = false
	_ = d.apply(src)
}
