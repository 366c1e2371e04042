package tailfin

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// An answerMemory is what the encoding of an answer needs while it is sent.
type answerMemory struct {
	fields  []h3frame.Field // of its header section
	section []byte          // that, encoded
	head    []byte          // a sendStream's
	body    []byte          // a sendStream's
}

var answerMemories = sync.Pool{New: func() any { return new(answerMemory) }}

// The most of one slice that is kept for another answer: in bytes, and in fields.
const (
	maxKept       = 2 * writeBuffer
	maxKeptFields = 256
)

// lend gives w memory until giveBack.
func (w *responseWriter) lend() {
	w.mem, _ = answerMemories.Get().(*answerMemory)
	w.str.head = append(w.mem.head[:0], w.str.head...)
	w.str.body = w.mem.body[:0]
}

// giveBack takes the memory of w back, which must not write any more. Nobody else has
// it: a QUIC stream has copied what it was given when its Write returns.
func (w *responseWriter) giveBack() {
	if w.mem == nil {
		return
	}
	w.mem.head, w.mem.body = w.str.head, w.str.body
	w.str.head, w.str.body = nil, nil
	if m := w.mem; max(cap(m.head), cap(m.body), cap(m.section)) <= maxKept && cap(m.fields) <= maxKeptFields {
		clear(m.fields)
		m.fields = m.fields[:0]
		answerMemories.Put(m)
	}
	w.mem = nil
}

// A dateText is a Date field's value, which is good for a second.
type dateText struct {
	second int64
	text   string
}

var lastDate atomic.Pointer[dateText]

// dateField is the value of Date now.
func dateField() string {
	now := time.Now()
	last := lastDate.Load()
	if last == nil || last.second != now.Unix() {
		last = &dateText{now.Unix(), now.UTC().Format(http.TimeFormat)}
		lastDate.Store(last)
	}
	return last.text
}
