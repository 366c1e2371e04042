package h3frame

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"unsafe"
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
	if b.Len() != 3 || string(b.cur) != "abc" {
		t.Fatalf("Len %d, front %q", b.Len(), b.cur)
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
	if got := b.peek(scratch[:0], b.Len()); string(got) != "abcdef" || b.Len() != 6 {
		t.Errorf("buffer holds %q, Len %d", got, b.Len())
	}
	b.skip(3)
	b.advance()
	if got := b.peek(scratch[:0], b.Len()); string(got) != "def" {
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

// TestBufferFINBeatsClose has the close of a batch recorded before the FIN in it.
func TestBufferFINBeatsClose(t *testing.T) {
	d := NewDecoder(ResponseStream, Limits{})
	d.Buffer().Finish(errClose)
	d.Buffer().Append(transcript{}.headers("head").data("body").b)
	d.Buffer().Finish(io.EOF)
	d.Buffer().Finish(errInternal)
	var r recorder
	if err := r.drain(t, d); err != io.EOF {
		t.Errorf("%v, want io.EOF", err)
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
			got = append(got, b.cur...)
			b.skip(len(b.cur))
			b.advance()
		}
	}
	for b.Len() > 0 {
		got = append(got, b.cur...)
		b.skip(len(b.cur))
		b.advance()
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

// TestBufferSmallChunks holds that a byte at a time, unread, costs little more than
// a byte each, and that it is borrowed no longer than it needs to be.
func TestBufferSmallChunks(t *testing.T) {
	var b Buffer
	var want []byte
	for i := range 100_000 {
		p := []byte{byte(i), byte(i >> 8), byte(i >> 16)}[:1+i%3]
		b.Append(p)
		want = append(want, p...)
	}
	held := len(b.chunks) * int(unsafe.Sizeof(chunk{}))
	for i := range b.chunks {
		held += cap(b.chunks[i].data)
	}
	if held > 3*len(want) {
		t.Errorf("holds %d bytes for %d", held, len(want))
	}
	if got := b.peek(make([]byte, 0, b.Len()), b.Len()); !bytes.Equal(got, want) {
		t.Error("bytes were lost or moved")
	}
}

// TestBufferGathersApart sees that what is copied together leaves what was lent, and
// what was returned of it, as it was.
func TestBufferGathersApart(t *testing.T) {
	d := NewDecoder(ResponseStream, Limits{})
	lent := transcript{}.headers("h").head(FrameData, 100).raw("abc").b
	spare := append(lent, "SPARE"...)[:len(lent)]
	d.Buffer().Append(spare)
	mustNext(t, d)
	piece := mustNext(t, d)
	d.Buffer().Append([]byte("def"))
	d.Buffer().Append([]byte("ghi"))
	if string(piece.Payload) != "abc" || string(spare[:len(lent)+5][len(lent):]) != "SPARE" {
		t.Errorf("the piece became %q, what is behind it %q", piece.Payload, spare[:len(lent)+5])
	}
	if f := mustNext(t, d); string(f.Payload) != "defghi" {
		t.Errorf("then came %q", f.Payload)
	}
}

func TestBufferWrite(t *testing.T) {
	var b Buffer
	p := bytes.Repeat([]byte("0123456789"), ChunkSize/4)
	if n, err := b.Write(p); n != len(p) || err != nil || b.Len() != len(p) {
		t.Errorf("%d, %v, Len %d", n, err, b.Len())
	}
	fill(p)
	if got := b.peek(make([]byte, 0, b.Len()), b.Len()); !bytes.Equal(got, bytes.Repeat([]byte("0123456789"), ChunkSize/4)) {
		t.Error("Write did not copy")
	}
	b.Release()
	if n, err := b.Write(p); n != len(p) || err != nil || b.Len() != 0 {
		t.Errorf("after Release: %d, %v, Len %d", n, err, b.Len())
	}
}
