package client

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// longest is the longest time that a Summary tells apart.
const longest = 24 * time.Hour

// A Batch is many transfers, so many at a time.
type Batch struct {
	Parallel int
	// Transfer makes the transfer with index i, and returns how many bytes it moved.
	Transfer func(ctx context.Context, i int) (int64, error)
}

// A Summary says how a batch went.
type Summary struct {
	Requests int // that were made
	Failed   int
	Bytes    int64
	Took     time.Duration

	times *hdrhistogram.Histogram // of whole transfers in microseconds
}

// Run makes n transfers. It begins no more of them once ctx has ended.
func (b *Batch) Run(ctx context.Context, n int) *Summary {
	sum := &Summary{times: hdrhistogram.New(1, longest.Microseconds(), 3)}
	start := time.Now()
	var (
		mu   sync.Mutex // of sum
		wg   sync.WaitGroup
		jobs = make(chan int)
	)
	for range min(max(b.Parallel, 1), n) {
		wg.Go(func() {
			for i := range jobs {
				begun := time.Now()
				bytes, err := b.Transfer(ctx, i)
				took := time.Since(begun)
				mu.Lock()
				sum.add(bytes, err, took)
				mu.Unlock()
			}
		})
	}
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		select {
		case jobs <- i:
		case <-ctx.Done():
		}
	}
	close(jobs)
	wg.Wait()
	sum.Took = time.Since(start)
	return sum
}

func (s *Summary) add(bytes int64, err error, took time.Duration) {
	s.Requests++
	s.Bytes += bytes
	if err != nil {
		s.Failed++
		return
	}
	_ = s.times.RecordValue(min(max(took.Microseconds(), 1), longest.Microseconds()))
}

// String is the line for people. Times are of whole transfers that went well.
func (s *Summary) String() string {
	rate := int64(float64(s.Bytes) / max(s.Took.Seconds(), 1e-6))
	text := fmt.Sprintf("%d requests: %d whole, %d failed, %s in %v, %s/s", s.Requests, s.Requests-s.Failed, s.Failed,
		Size(s.Bytes), s.Took.Round(time.Millisecond), Size(rate))
	if s.times.TotalCount() > 0 {
		text += fmt.Sprintf(", p50 %v, p99 %v", s.quantile(50), s.quantile(99))
	}
	return text
}

func (s *Summary) quantile(q float64) time.Duration {
	d := time.Duration(s.times.ValueAtQuantile(q)) * time.Microsecond
	if d > time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(10 * time.Microsecond)
}
