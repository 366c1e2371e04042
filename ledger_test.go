package tailfin

import (
	"math/rand/v2"
	"testing"
)

// TestLedgerAgainstBitmap feeds random frames, overlapping, repeated and out of
// order, and compares with a map of every byte.
func TestLedgerAgainstBitmap(t *testing.T) {
	const size = 400
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var l ledger
		var have [size]bool
		finSent := false
		for step := range 200 {
			off := rng.Int64N(size)
			n := rng.Int64N(min(40, size-off) + 1)
			fin := off+n == size && rng.IntN(2) == 0
			finSent = finSent || fin
			l.add(off, n, fin)
			for i := off; i < off+n; i++ {
				have[i] = true
			}
			want := int64(0)
			for want < size && have[want] {
				want++
			}
			if l.contiguous != want {
				t.Fatalf("seed %d step %d: contiguous = %d, want %d", seed, step, l.contiguous, want)
			}
			if got := l.ended(); got != (finSent && want == size) {
				t.Fatalf("seed %d step %d: ended = %v with contiguous %d, FIN %v", seed, step, got, want, finSent)
			}
			for i, s := range l.ahead {
				if s.start <= l.contiguous || s.end <= s.start || i > 0 && s.start <= l.ahead[i-1].end {
					t.Fatalf("seed %d step %d: ranges not sorted and apart: %v after %d", seed, step, l.ahead, l.contiguous)
				}
			}
		}
	}
}

func TestLedgerBoundsItsMemory(t *testing.T) {
	var l ledger
	for i := range int64(100_000) {
		l.add(10+i*3, 1, false)
	}
	if len(l.ahead) > maxLedgerGaps {
		t.Fatalf("%d ranges kept, bound is %d", len(l.ahead), maxLedgerGaps)
	}
	if l.contiguous != 0 {
		t.Fatalf("contiguous = %d with byte 0 missing", l.contiguous)
	}
}

func TestLedgerEmptyFIN(t *testing.T) {
	var l ledger
	l.add(0, 100, false)
	if l.ended() {
		t.Fatal("ended without FIN")
	}
	l.add(100, 0, true)
	if !l.ended() {
		t.Fatal("an empty STREAM frame with FIN ends the stream")
	}
	var empty ledger
	empty.add(0, 0, true)
	if !empty.ended() {
		t.Fatal("a stream may be empty")
	}
}
