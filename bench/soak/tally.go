package soak

import (
	"fmt"
	"maps"
	"sync"
	"time"
)

// A Tally is what became of what the clients of one kind have done.
type Tally struct {
	Done    int64 `json:"done"` // as it must be
	Bytes   int64 `json:"bytes"`
	GivenUp int64 `json:"given_up,omitempty"` // by the client, on purpose
	Again   int64 `json:"again,omitempty"`    // sent once more, since the server had not acted on it
	Failed  int64 `json:"failed,omitempty"`   // told so, in a fault of the network
	Orphans int64 `json:"orphans,omitempty"`  // resumable uploads whose client was not told where they go on
	Unsure  int64 `json:"unsure,omitempty"`   // sent into a fault without waiting, and not stored
	Lost    int64 `json:"lost,omitempty"`
	Corrupt int64 `json:"corrupt,omitempty"`
	Crashed int64 `json:"crashed,omitempty"` // client processes
}

// plus is the sum.
func (t Tally) plus(o Tally) Tally {
	return Tally{
		t.Done + o.Done, t.Bytes + o.Bytes, t.GivenUp + o.GivenUp, t.Again + o.Again, t.Failed + o.Failed,
		t.Orphans + o.Orphans, t.Unsure + o.Unsure, t.Lost + o.Lost, t.Corrupt + o.Corrupt, t.Crashed + o.Crashed,
	}
}

// sum is that of all kinds.
func sum(kinds map[string]Tally) (all Tally) {
	for _, t := range kinds {
		all = all.plus(t)
	}
	return all
}

// maxTroubles is how many of what went wrong are told in words.
const maxTroubles = 50

// tallies are those of all kinds, and words for what went wrong.
type tallies struct {
	mu       sync.Mutex
	kinds    map[string]Tally
	failures map[string]int64 // those of Tally.Failed, by their class
	troubles []string
	left     int // more of them
}

// add counts.
func (t *tallies) add(kind string, more Tally) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kinds == nil {
		t.kinds = make(map[string]Tally)
	}
	t.kinds[kind] = t.kinds[kind].plus(more)
}

// told counts a failure that a client was told of.
func (t *tallies) told(kind, class string) {
	t.add(kind, Tally{Failed: 1})
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failures == nil {
		t.failures = make(map[string]int64)
	}
	t.failures[class]++
}

// trouble says what went wrong.
func (t *tallies) trouble(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.troubles) == maxTroubles {
		t.left++
		return
	}
	t.troubles = append(t.troubles, time.Now().Format("15:04:05 ")+fmt.Sprintf(format, args...))
}

// read is all so far.
func (t *tallies) read() (kinds map[string]Tally, failures map[string]int64, troubles []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	kinds, failures = maps.Clone(t.kinds), maps.Clone(t.failures)
	troubles = t.troubles[:len(t.troubles):len(t.troubles)]
	if t.left > 0 {
		troubles = append(troubles, fmt.Sprintf("and %d more", t.left))
	}
	return kinds, failures, troubles
}
