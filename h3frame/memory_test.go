package h3frame

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"unsafe"
)

// maxHeld is what a decoder may hold, in bytes, of a frame that it hands on in
// pieces or skips, whatever length the frame declares.
const maxHeld = 64 << 10

// held counts the memory that a decoder keeps, in bytes: itself, its chunks and
// the queue of them, and what it gathers payloads in.
func held(d *Decoder) int {
	n := int(unsafe.Sizeof(*d)) + cap(d.scratch) + cap(d.buf.chunks)*int(unsafe.Sizeof(chunk{}))
	for _, c := range d.buf.chunks[d.buf.head:] {
		switch {
		case c.pooled != nil:
			n += ChunkSize
		default:
			n += cap(c.data)
		}
	}
	return n
}

// feedPieces feeds a decoder fed bytes in pieces of the given size, and reads what
// it has after each. It returns the bytes of DATA that came out, the most that the
// decoder held, and what the process allocated meanwhile.
func feedPieces(t testing.TB, d *Decoder, fed, piece int) (body uint64, peak, allocated int) {
	t.Helper()
	b := d.Buffer()
	lent := make([]byte, piece)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for n := 0; n < fed; n += piece {
		if n/piece%2 == 0 {
			b.Append(lent)
		} else {
			b.Commit(min(piece, len(b.Reserve())))
		}
		peak = max(peak, held(d))
		for {
			f, err := d.Next()
			if err == nil {
				body += uint64(len(f.Payload))
				continue
			}
			if err != ErrNeedMore {
				t.Fatal(err)
			}
			break
		}
		peak = max(peak, held(d))
	}
	runtime.ReadMemStats(&after)
	return body, peak, int(after.TotalAlloc - before.TotalAlloc)
}

// TestBoundedMemory feeds a frame that declares 1 GiB in pieces, as much as 64 MiB
// of it, and looks at what is held and at what was ever allocated.
func TestBoundedMemory(t *testing.T) {
	const declared = 1 << 30
	for _, typ := range []FrameType{FrameData, 0x21} {
		for piece, fed := range map[int]int{minReserve: 64 << 20, 1: fedByBytes} {
			t.Run(fmt.Sprintf("%s/pieces of %d", typ, piece), func(t *testing.T) {
				d := NewDecoder(ResponseStream, Limits{})
				d.Buffer().Append(transcript{}.headers("h").head(typ, declared).b)
				mustNext(t, d)
				body, peak, allocated := feedPieces(t, d, fed, piece)
				if peak > maxHeld || !raceEnabled && allocated > maxHeld {
					t.Errorf("held %d bytes, allocated %d", peak, allocated)
				}
				if typ == FrameData && body != uint64(fed) {
					t.Errorf("delivered %d bytes of %d", body, fed)
				}
				d.Buffer().Finish(errClose)
				_, err := d.Next()
				truncated(TruncatedError{Type: typ, Got: uint64(fed), Want: declared, Err: errClose})(t, err)
				wantSticky(t, d, err)
			})
		}
	}
}

// TestDeclaredLengthRefused has frames that would have to be held whole: they are
// refused by their headers, before any of the payload is kept.
func TestDeclaredLengthRefused(t *testing.T) {
	ctl := transcript{}.settings()
	for _, tc := range []struct {
		role Role
		in   transcript
	}{
		{ResponseStream, transcript{}.head(FrameHeaders, 1<<30)},
		{ResponseStream, transcript{}.head(FramePushPromise, MaxVarint)},
		{ClientControlStream, transcript{}.head(FrameSettings, 1<<40)},
		{ClientControlStream, ctl.head(FramePriorityUpdateRequest, 1<<30)},
		{ClientControlStream, ctl.head(FrameGoAway, 1<<30)},
	} {
		d := NewDecoder(tc.role, Limits{})
		d.AllowPushes(1)
		d.Buffer().Append(tc.in.b)
		var r recorder
		err := r.drain(t, d)
		var frameErr *FrameError
		if !errors.As(err, &frameErr) || frameErr.Code != ErrCodeExcessiveLoad && frameErr.Code != ErrCodeFrame {
			t.Errorf("%s: %v", tc.role, err)
		}
		if d.Buffer().Reserve() != nil || held(d) > 1<<10 {
			t.Errorf("%s: goes on to take data, holds %d bytes", tc.role, held(d))
		}
	}
}

// BenchmarkOneByteAtATime feeds a DATA frame of 1 GiB, all of it, one byte at a
// time, and reports what the decoder held at most. Run it with -benchtime 1x.
func BenchmarkOneByteAtATime(b *testing.B) {
	const declared = 1 << 30
	most, allocated := 0, 0
	for b.Loop() {
		d := NewDecoder(ResponseStream, Limits{})
		d.Buffer().Append(transcript{}.headers("h").head(FrameData, declared).b)
		mustNext(b, d)
		body, peak, alloc := feedPieces(b, d, declared, 1)
		if body != declared {
			b.Fatalf("delivered %d bytes", body)
		}
		most, allocated = max(most, peak), max(allocated, alloc)
	}
	b.ReportMetric(float64(most), "peak-B")
	b.ReportMetric(float64(allocated), "allocated-B")
}
