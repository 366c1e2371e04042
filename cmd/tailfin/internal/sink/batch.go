package sink

import "sync"

// A batcher does for many callers at once what costs the same for one: the
// commit of a file system. What comes while a batch is at work waits for the
// next, so that a batch grows with the load and a lone caller waits for nobody.
type batcher[T any] struct {
	run func(items []T) // one at a time

	mu   sync.Mutex
	next *batch[T] // gathering; nil if nobody waits
	busy bool      // some caller runs a batch, or was told to
}

type batch[T any] struct {
	items []T
	lead  chan struct{} // has an element for the caller that is to run it
	done  chan struct{} // closed after run
}

// do returns after a batch with item was run. One of its callers runs it: a
// goroutine of its own would cost two more switches.
func (b *batcher[T]) do(item T) {
	b.mu.Lock()
	mine := b.next
	if mine == nil {
		mine = &batch[T]{lead: make(chan struct{}, 1), done: make(chan struct{})}
		b.next = mine
	}
	mine.items = append(mine.items, item)
	if !b.busy {
		b.busy = true
		mine.lead <- struct{}{}
	}
	b.mu.Unlock()

	select {
	case <-mine.done:
		return
	case <-mine.lead:
	}
	b.mu.Lock()
	b.next = nil // who comes now may have missed this run's start
	b.mu.Unlock()
	b.run(mine.items)
	b.mu.Lock()
	if b.next != nil {
		b.next.lead <- struct{}{}
	} else {
		b.busy = false
	}
	b.mu.Unlock()
	close(mine.done)
}
