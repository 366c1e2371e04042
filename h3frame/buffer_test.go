package h3frame

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
)

func TestBufferReserveCommit(t *testing.T) {
	var b Buffer
	p := b.Reserve()
	if len(p) < minReserve {
		t.Fatalf("reserved %d bytes", len(p))
	}
	if q := b.Reserve(); &q[0] != &p[0] || len(q) != len(p) {
		t.Error("a second Reserve gave other space")
	}
	copy(p, "abc")
	b.Commit(3)
	b.Commit(5) // nothing is reserved any more
	if b.Len() != 3 || string(b.front()) != "abc" {
		t.Fatalf("Len %d, front %q", b.Len(), b.front())
	}
	if q := b.Reserve(); &q[0] != &p[3] {
		t.Error("the rest of the chunk is not used")
	}
	b.Commit(len(p) * 2)
	if b.Len() != ChunkSize {
		t.Errorf("committed beyond the reserved space: %d", b.Len())
	}
	b.Reserve()
	b.Commit(-1)
	if b.Len() != ChunkSize {
		t.Errorf("Len %d after a negative Commit", b.Len())
	}
	b.Release()
}

// TestBufferKeepsPiece holds the promise that a piece stays as it is, whatever is
// fed, until Next is called again.
func TestBufferKeepsPiece(t *testing.T) {
	for name, feed := range map[string]func(b *Buffer){
		"Reserve": func(b *Buffer) {
			for range 5 {
				p := b.Reserve()
				for i := range p {
					p[i] = 'x'
				}
				b.Commit(len(p))
			}
		},
		"Append": func(b *Buffer) { b.Append([]byte("xxxxxxxxxxx")) },
		"Reset":  func(b *Buffer) { b.Reset(errReset); other := new(Buffer); fill(other.Reserve()) },
		"Finish": func(b *Buffer) { b.Finish(io.EOF) },
	} {
		t.Run(name, func(t *testing.T) {
			d := NewDecoder(ResponseStream, Limits{})
			p := d.Buffer().Reserve()
			d.Buffer().Commit(copy(p, transcript{}.headers("h").data("piece").b))
			mustNext(t, d)
			f := mustNext(t, d)
			feed(d.Buffer())
			if string(f.Payload) != "piece" {
				t.Errorf("the piece became %q", f.Payload)
			}
			if got := append(f.Payload, "zzz"...); &got[0] == &f.Payload[0] {
				t.Error("an append to the piece writes into the chunk")
			}
			d.Buffer().Release()
		})
	}
}

func fill(p []byte) {
	for i := range p {
		p[i] = 'x'
	}
}

func TestBufferAppendVoidsReserve(t *testing.T) {
	var b Buffer
	b.Append([]byte("ab"))
	b.Reserve()
	b.Append(nil) // a no-op, which voids nothing
	b.Append([]byte("cd"))
	b.Commit(7)
	b.Append([]byte("ef"))
	var scratch [16]byte
	if got := b.peek(scratch[:]); string(got) != "abcdef" || b.Len() != 6 {
		t.Errorf("buffer holds %q, Len %d", got, b.Len())
	}
	b.skip(3)
	b.reclaim()
	if got := b.peek(scratch[:]); string(got) != "def" {
		t.Errorf("after skip: %q", got)
	}
}

func TestBufferFirstEndWins(t *testing.T) {
	var b Buffer
	if b.Finished() || b.Err() != nil {
		t.Error("the zero value has ended")
	}
	b.Finish(nil)
	b.Finish(errClose)
	if b.Err() != io.EOF || !b.Finished() {
		t.Errorf("end %v, want io.EOF", b.Err())
	}
	b.Append([]byte("x"))
	b.Reset(nil)
	b.Reset(errReset)
	if b.Err() != ErrReset || b.Len() != 0 {
		t.Errorf("end %v, Len %d after Reset", b.Err(), b.Len())
	}
	b.Append([]byte("late"))
	if b.Len() != 0 || b.Reserve() != nil {
		t.Error("data was taken after Reset")
	}
}

func TestBufferRelease(t *testing.T) {
	for _, tc := range []struct {
		name  string
		setup func(b *Buffer)
		want  error
	}{
		{"open", func(*Buffer) {}, ErrReleased},
		{"FIN not reported", func(b *Buffer) { b.Finish(io.EOF) }, ErrReleased},
		{"close", func(b *Buffer) { b.Finish(errClose) }, errClose},
		{"reset", func(b *Buffer) { b.Reset(errReset) }, errReset},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := NewDecoder(RequestStream, Limits{})
			b := d.Buffer()
			fill(b.Reserve())
			b.Append(transcript{}.headers("h").b)
			tc.setup(b)
			b.Release()
			b.Release()
			b.Append([]byte{1})
			b.Commit(9)
			b.Finish(errors.New("late"))
			b.Reset(errors.New("late"))
			for range 2 {
				if _, err := d.Next(); err != tc.want {
					t.Errorf("Next: %v, want %v", err, tc.want)
				}
			}
			if b.Len() != 0 || b.Reserve() != nil {
				t.Error("the buffer still takes data")
			}
		})
	}
	if !errors.Is(ErrReleased, net.ErrClosed) {
		t.Error("ErrReleased is no net.ErrClosed")
	}
}

// TestBufferGivesChunksBack sees that what is read is not held.
func TestBufferGivesChunksBack(t *testing.T) {
	d := NewDecoder(ResponseStream, Limits{})
	b := d.Buffer()
	b.Append(transcript{}.headers("h").b)
	b.Append(AppendFrameHeader(nil, FrameData, 100*ChunkSize))
	mustNext(t, d)
	for range 100 {
		b.Commit(len(b.Reserve()))
		mustNext(t, d)
		if n := len(b.chunks) - b.head; n > 2 {
			t.Fatalf("%d chunks held", n)
		}
	}
	if cap(b.chunks) > 16 {
		t.Errorf("the queue has grown to %d", cap(b.chunks))
	}
	if _, err := d.Next(); err != ErrNeedMore {
		t.Fatal(err)
	}
	if len(b.chunks) != 0 {
		t.Errorf("an idle stream holds %d chunks", len(b.chunks))
	}
}

func TestBufferManyChunks(t *testing.T) {
	var b Buffer
	var want, got []byte
	for i := range 5000 {
		b.Append([]byte{byte(i), byte(i >> 8)})
		want = append(want, byte(i), byte(i>>8))
		if i%3 == 0 {
			got = append(got, b.front()...)
			b.skip(len(b.front()))
			b.reclaim()
		}
	}
	for b.Len() > 0 {
		got = append(got, b.front()...)
		b.skip(len(b.front()))
		b.reclaim()
	}
	if !bytes.Equal(got, want) {
		t.Error("bytes were lost or moved")
	}
}

// TestBufferNextWithinReserve calls Next while space is reserved: what is read
// into it afterwards is not lost.
func TestBufferNextWithinReserve(t *testing.T) {
	d := NewDecoder(RequestStream, Limits{})
	p := d.Buffer().Reserve()
	if _, err := d.Next(); err != ErrNeedMore {
		t.Fatal(err)
	}
	d.Buffer().Commit(copy(p, transcript{}.headers("head").b))
	if f := mustNext(t, d); string(f.Payload) != "head" {
		t.Errorf("payload %q", f.Payload)
	}
	d.Buffer().Release()
}
