package sink

import (
	"sync"
	"sync/atomic"
	"testing"
)

// TestBatcher has many callers and counts: each item is run once, by a run that
// began after do was called, and only one run is at work at a time.
func TestBatcher(t *testing.T) {
	type item struct {
		called, run int64 // runs begun before the call, and the run that had it
		times       int
	}
	var begun, atWork atomic.Int64
	b := &batcher[*item]{}
	b.run = func(items []*item) {
		if atWork.Add(1) != 1 {
			t.Error("two runs at once")
		}
		n := begun.Add(1)
		for _, it := range items {
			it.run = n
			it.times++
		}
		atWork.Add(-1)
	}
	const callers, each = 32, 500
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				it := &item{called: begun.Load()}
				b.do(it)
				if it.times != 1 || it.run <= it.called {
					t.Errorf("called after run %d began, had by run %d, %d times", it.called, it.run, it.times)
				}
			}
		})
	}
	wg.Wait()
	if b.busy || b.next != nil {
		t.Error("it does not come to rest")
	}
	t.Logf("%d items in %d runs", callers*each, begun.Load())
}
