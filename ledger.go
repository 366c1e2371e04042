package tailfin

import "slices"

// maxLedgerGaps bounds how many out-of-order ranges a ledger remembers.
// quic-go (v0.65.0) refuses a stream with more than 1,000 gaps, so a
// connection that passes this bound is about to fail anyway.
const maxLedgerGaps = 1000

// A ledger knows which bytes of one receive stream have arrived, from the
// offsets and lengths of its STREAM frames alone (RFC 9000 §19.8). From it the
// barrier tells whether a Read would return at once or block.
//
// The zero value is a stream of which nothing has arrived. It is guarded by
// the mutex of its barrier.
type ledger struct {
	contiguous int64  // every byte below this offset has arrived
	size       int64  // the final size; valid if finSeen
	finSeen    bool   // a STREAM frame with FIN has arrived
	ahead      []span // ranges above contiguous, sorted, apart from each other
}

// span is the half-open range [start, end) of stream offsets.
type span struct{ start, end int64 }

// add records one STREAM frame. Overlaps and repeats are harmless.
func (l *ledger) add(offset, length int64, fin bool) {
	end := offset + length
	if fin && !l.finSeen {
		l.finSeen, l.size = true, end
	}
	switch {
	case end <= l.contiguous, length == 0:
		return
	case offset <= l.contiguous:
		l.contiguous = end
		l.absorb()
	default:
		l.insert(span{offset, end})
	}
}

// ended tells that the FIN and every byte before it have arrived.
func (l *ledger) ended() bool { return l.finSeen && l.contiguous >= l.size }

// absorb moves contiguous over the ranges that now touch it.
func (l *ledger) absorb() {
	n := 0
	for n < len(l.ahead) && l.ahead[n].start <= l.contiguous {
		l.contiguous = max(l.contiguous, l.ahead[n].end)
		n++
	}
	l.ahead = slices.Delete(l.ahead, 0, n)
}

// insert merges s into the ranges ahead.
func (l *ledger) insert(s span) {
	i, _ := slices.BinarySearchFunc(l.ahead, s.start, func(have span, start int64) int {
		if have.end < start {
			return -1
		}
		return 1
	})
	j := i
	for j < len(l.ahead) && l.ahead[j].start <= s.end {
		s.start = min(s.start, l.ahead[j].start)
		s.end = max(s.end, l.ahead[j].end)
		j++
	}
	if i == j && len(l.ahead) >= maxLedgerGaps {
		return // forgetting a range only makes the ledger claim less
	}
	l.ahead = slices.Replace(l.ahead, i, j, s)
}
