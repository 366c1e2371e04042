package transfer

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// smallBytes is the answer to a small request.
	smallBytes = 100
	// paceBytes is what a body that is offered at a rate hands over at a time.
	paceBytes = 64 << 10

	maxLatency    = int64(time.Minute / time.Microsecond)
	latencyDigits = 3
)

// latency sends bodies until the time is over, and makes small requests meanwhile at
// their rate: each when it is due, whether or not those before are answered, and its
// latency counts from then.
func (s *sender) latency(ctx context.Context, report *sentReport) error {
	end := time.Now().Add(s.Time)
	bodies := make([]*timedBody, len(s.bulk))
	bulk := make(chan error, 1)
	for i := range bodies {
		bodies[i] = &timedBody{end: end, began: time.Now(), perSecond: s.BulkGbit * 1e9 / 8 / float64(len(bodies))}
	}
	go func() {
		bulk <- each(len(bodies), len(bodies), func(i int) error {
			return put(ctx, s.bulk[i], "https://"+s.Addr+pathBody, bodies[i], -1)
		})
	}()
	err := s.smallRequests(ctx, end, report)
	if failed := <-bulk; failed != nil {
		return fmt.Errorf("bulk: %w", failed)
	}
	for _, b := range bodies {
		report.Bytes += b.sent
	}
	report.Bodies = len(bodies)
	return err
}

// smallRequests makes them until the end.
func (s *sender) smallRequests(ctx context.Context, end time.Time, report *sentReport) error {
	var all sync.WaitGroup
	var mu sync.Mutex // guards what follows
	latencies := hdrhistogram.New(1, maxLatency, latencyDigits)
	var failed error
	interval := time.Second / time.Duration(s.Rate)
	for due := time.Now().Add(interval); due.Before(end); due = due.Add(interval) {
		time.Sleep(time.Until(due))
		all.Go(func() {
			err := s.get(ctx)
			took := time.Since(due).Microseconds()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
				return
			}
			_ = latencies.RecordValue(min(took, maxLatency))
		})
	}
	all.Wait()
	if failed != nil {
		return fmt.Errorf("small request: %w", failed)
	}
	report.P50, report.P99 = float64(latencies.ValueAtQuantile(50)), float64(latencies.ValueAtQuantile(99))
	return nil
}

// get makes a small request.
func (s *sender) get(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+s.Addr+pathBytes+strconv.Itoa(smallBytes), nil)
	if err != nil {
		return err
	}
	n, err := roundTrip(s.small, req)
	if err == nil && n != smallBytes {
		return fmt.Errorf("%d bytes of %d", n, smallBytes)
	}
	return err
}

// A timedBody is a body that ends at a time. One request reads it.
type timedBody struct {
	end       time.Time
	began     time.Time
	perSecond float64 // bytes; 0 is as many as are wanted
	sent      int64
}

func (b *timedBody) Read(p []byte) (int, error) {
	if b.perSecond > 0 && b.sent%paceBytes == 0 {
		time.Sleep(time.Until(b.began.Add(time.Duration(float64(b.sent) / b.perSecond * float64(time.Second)))))
	}
	if !time.Now().Before(b.end) {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), paceBytes-b.sent%paceBytes)]
	clear(p)
	b.sent += int64(len(p))
	return len(p), nil
}
