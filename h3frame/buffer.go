package h3frame

import (
	"io"
	"sync"
)

const (
	// ChunkSize is the size in bytes of a pooled chunk, and so the longest DATA
	// piece that comes of Reserve and Commit.
	ChunkSize = 8 << 10
	// minReserve is the least space in bytes that Reserve returns. Less would make
	// reads short, more would leave more of each chunk unused.
	minReserve = 1 << 10
)

var chunkPool = sync.Pool{New: func() any { return new([ChunkSize]byte) }}

// A chunk is a run of received bytes; data[read:] is unread.
type chunk struct {
	data   []byte
	read   int
	pooled *[ChunkSize]byte // memory behind data if it is ours, nil if Append lent it
}

func (c *chunk) release() {
	if c.pooled != nil {
		chunkPool.Put(c.pooled)
	}
	*c = chunk{}
}

// A Buffer holds what one stream received and its Decoder has not read: chunks
// in order of arrival, and the event that ends them. It is the place where data
// goes before the close, whatever order a batch brought them in.
//
// The zero value is ready. A Buffer is owned by one goroutine; it has no locks.
// Pooled chunks belong to it from Reserve until the Decoder has read past them
// and is called again, or until Release.
type Buffer struct {
	chunks   []chunk // chunks[head:] are in use
	head     int
	unread   int
	reserved int // bytes of an open Reserve at the tail of the last chunk

	end     error // the terminal event, nil before it
	reset   bool  // end is a RESET_STREAM, or the like: no data before it
	dropped bool  // data is refused: reset, released, or the Decoder has failed

	released bool
}

// Reserve returns free space of at least 1 KiB for the next read. Commit says how
// much of it was filled; a second Reserve before that returns the same space, and
// an Append voids it. It returns nil once the Buffer takes no more data, that is
// after Reset, Release, or a final error from Decoder.Next.
func (b *Buffer) Reserve() []byte {
	if b.dropped {
		return nil
	}
	if n := len(b.chunks); n > b.head {
		if c := &b.chunks[n-1]; c.pooled != nil && ChunkSize-len(c.data) >= minReserve {
			b.reserved = ChunkSize - len(c.data)
			return c.pooled[len(c.data):]
		}
	}
	p := chunkPool.Get().(*[ChunkSize]byte)
	b.push(chunk{data: p[:0], pooled: p})
	b.reserved = ChunkSize
	return p[:]
}

// Commit makes the first n bytes of the last Reserve data. What exceeds the
// reserved space, or has none, is ignored: it was never written there. A read
// that returns n > 0 with an error is Commit(n) and then Finish or Reset.
func (b *Buffer) Commit(n int) {
	n = min(n, b.reserved)
	b.reserved = 0
	if n <= 0 {
		return
	}
	c := &b.chunks[len(b.chunks)-1]
	c.data = c.pooled[:len(c.data)+n]
	b.unread += n
}

// Append takes p by reference as the next chunk. The caller must not change p
// until the Decoder has read past it and was called again. An empty p does nothing.
func (b *Buffer) Append(p []byte) {
	if len(p) == 0 || b.dropped {
		return
	}
	b.reserved = 0
	b.push(chunk{data: p})
	b.unread += len(p)
}

// Finish records how the stream ended: io.EOF (or nil) for a FIN, else the error
// that closed the connection. All data comes before it, also what is added
// after it as long as the Decoder has not reported it: within a batch order does
// not matter. The first event wins, so that a close after a FIN changes nothing.
func (b *Buffer) Finish(err error) {
	if b.end != nil || b.released {
		return
	}
	if err == nil {
		err = io.EOF
	}
	b.end = err
}

// Reset records a RESET_STREAM (RFC 9000 §3.2), or a rejected 0-RTT, whose data
// must not be seen: it discards what is unread, and err is what the Decoder
// reports next. It takes the place of an event that was recorded before but not
// yet reported.
func (b *Buffer) Reset(err error) {
	if b.dropped {
		return
	}
	if err == nil {
		err = ErrReset
	}
	b.end, b.reset = err, true
	// The memory is not given back yet: the last piece that Next returned stays
	// valid until Next is called again.
	for i := b.head; i < len(b.chunks); i++ {
		b.chunks[i].read = len(b.chunks[i].data)
	}
	b.unread, b.reserved, b.dropped = 0, 0, true
}

// Len returns the unread bytes.
func (b *Buffer) Len() int { return b.unread }

// Finished tells that the stream's end has been recorded, whether or not it has
// been reported.
func (b *Buffer) Finished() bool { return b.end != nil }

// Err returns the recorded end of the stream: io.EOF for a FIN, the error of a
// close or a reset, nil before any.
func (b *Buffer) Err() error { return b.end }

// Release gives all memory back. Payloads that Next returned are no longer valid.
// The Decoder then goes on to return its error, or if it had none, the error of
// the close or reset, else ErrReleased. Calling it again does nothing.
func (b *Buffer) Release() {
	b.discard()
	b.released = true
}

// discard frees all chunks and refuses further data.
func (b *Buffer) discard() {
	for i := b.head; i < len(b.chunks); i++ {
		b.chunks[i].release()
	}
	b.chunks, b.head = nil, 0
	b.unread, b.reserved, b.dropped = 0, 0, true
}

func (b *Buffer) push(c chunk) {
	// Slide the queue down only when at least half of it is used up, so that the
	// moves stay in proportion to the pushes however long the queue is.
	if len(b.chunks) == cap(b.chunks) && b.head > len(b.chunks)/2 {
		n := copy(b.chunks, b.chunks[b.head:])
		clear(b.chunks[n:])
		b.chunks, b.head = b.chunks[:n], 0
	}
	b.chunks = append(b.chunks, c)
}

// reclaim frees the chunks at the head that are read to their end. Afterwards
// the first chunk, if any data is unread, has some of it.
func (b *Buffer) reclaim() {
	for b.head < len(b.chunks) {
		c := &b.chunks[b.head]
		last := b.head == len(b.chunks)-1
		if c.read < len(c.data) || last && b.reserved > 0 {
			return
		}
		c.release()
		b.head++
	}
	b.chunks, b.head = b.chunks[:0], 0
}

// front returns the unread bytes of the first chunk. Call reclaim before it.
func (b *Buffer) front() []byte {
	if b.unread == 0 {
		return nil
	}
	c := &b.chunks[b.head]
	return c.data[c.read:]
}

// peek returns up to len(scratch) of the unread bytes without reading them: by
// reference where the first chunk has them, else gathered in scratch. Call
// reclaim before it.
func (b *Buffer) peek(scratch []byte) []byte {
	want := min(len(scratch), b.unread)
	if p := b.front(); len(p) >= want {
		return p[:want]
	}
	n := 0
	for i := b.head; n < want; i++ {
		c := &b.chunks[i]
		n += copy(scratch[n:want], c.data[c.read:])
	}
	return scratch[:n]
}

// skip reads n bytes, of which there must be as many, and keeps their memory
// until the next reclaim.
func (b *Buffer) skip(n int) {
	b.unread -= n
	for i := b.head; n > 0; i++ {
		c := &b.chunks[i]
		k := min(n, len(c.data)-c.read)
		c.read += k
		n -= k
	}
}
