package client

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
)

func TestProgressTotal(t *testing.T) {
	for _, tc := range []struct {
		name                          string
		files, sized, expected, moved int64
		want                          int64
	}{
		{"all known", 4, 4, 400, 10, 400},
		{"half known", 4, 2, 200, 10, 400},
		{"none known", 4, 0, 0, 10, 0},
		{"more than known", 1, 1, 100, 101, 0},
		{"empty", 1, 1, 0, 0, 0},
	} {
		p := &Progress{files: tc.files}
		p.Expect(int(tc.sized), tc.expected)
		p.Add(tc.moved)
		if got := p.total(); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
}

// TestNoProgressAtAll holds that a session needs none.
func TestNoProgressAtAll(t *testing.T) {
	var p *Progress
	p.Add(1)
	p.Expect(1, 2)
	p.Done()
	var out bytes.Buffer
	p.Print(&out, "line\n")
	p.Close()
	if out.String() != "line\n" {
		t.Fatalf("%q", out.String())
	}
}

func TestBatch(t *testing.T) {
	var now, most atomic.Int64
	gate := make(chan struct{})
	b := Batch{Parallel: 3, Transfer: func(_ context.Context, i int) (int64, error) {
		most.Store(max(most.Load(), now.Add(1)))
		if i < 3 {
			if i == 2 {
				close(gate) // the three of them are at work
			}
			<-gate
		}
		now.Add(-1)
		if i == 5 {
			return 1, errors.New("lost")
		}
		return 10, nil
	}}
	sum := b.Run(t.Context(), 9)
	if sum.Requests != 9 || sum.Failed != 1 || sum.Bytes != 81 || most.Load() > 3 {
		t.Fatalf("%+v, %d at a time", sum, most.Load())
	}
	if text := sum.String(); !strings.HasPrefix(text, "9 requests: 8 whole, 1 failed, 81 B in ") || !strings.Contains(text, "p50") {
		t.Fatal(text)
	}
	ctx, stop := context.WithCancel(t.Context())
	b.Parallel = 1
	b.Transfer = func(context.Context, int) (int64, error) { stop(); return 0, nil }
	if sum := b.Run(ctx, 9); sum.Requests > 2 {
		t.Fatalf("%d requests were begun after the end", sum.Requests)
	}
}
