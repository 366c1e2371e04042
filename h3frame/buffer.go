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
	// smallChunk is what Append copies rather than borrows if it meets another
	// small chunk that is still unread: a reference costs 40 bytes, and a peer that
	// sends one byte at a time must not make us hold 40 for each.
	smallChunk = 64
)

var chunkPool = sync.Pool{New: func() any { return new([ChunkSize]byte) }}

// A chunk is a run of received bytes. The first chunk's are in Buffer.cur.
type chunk struct {
	data   []byte           // unread; of a pooled chunk, with the free space as its capacity
	pooled *[ChunkSize]byte // memory behind data if it is of the pool
	owned  bool             // data was copied out of what Append was lent
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
	cur      []byte  // what is unread of chunks[head]; most calls look no further
	chunks   []chunk // chunks[head:] are in use
	head     int
	unread   int
	reserved int // bytes of an open Reserve at the tail of the last chunk

	end     error // the terminal event, nil before it
	reset   bool  // end is a RESET_STREAM, or the like: no data before it
	dropped bool  // data is refused: reset, released, or the Decoder has failed

	released bool

	first [1]chunk // where chunks begins: most streams never have more at a time
}

// Reserve returns free space of at least 1 KiB for the next read. Commit says how
// much of it was filled; a second Reserve before that returns the same space, and
// an Append voids it. It returns nil once the Buffer takes no more data, that is
// after Reset, Release, or a final error from Decoder.Next.
func (b *Buffer) Reserve() []byte {
	if b.dropped {
		return nil
	}
	if last := b.last(); last != nil && last.pooled != nil {
		data := *b.tail()
		if free := data[len(data):cap(data)]; len(free) >= minReserve {
			b.reserved = len(free)
			return free
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
	tail := b.tail()
	*tail = (*tail)[:len(*tail)+n]
	b.unread += n
}

// Append takes p by reference as the next chunk, or copies it if it is small. The
// caller must not change p until the Decoder has read past it and was called
// again. An empty p does nothing.
func (b *Buffer) Append(p []byte) {
	if len(p) == 0 || b.dropped {
		return
	}
	b.reserved = 0
	b.unread += len(p)
	if len(p) > smallChunk || !b.gather(p) {
		b.push(chunk{data: p})
	}
}

// gather adds p to the last chunk if that is a small one that waits to be read.
func (b *Buffer) gather(p []byte) bool {
	last := b.last()
	if last == nil || last.pooled != nil {
		return false
	}
	tail := b.tail()
	switch n := len(*tail); {
	case n == 0:
		return false // read: the next chunk may be borrowed again
	case last.owned:
		if n+len(p) > ChunkSize {
			return false
		}
	case n > smallChunk:
		return false
	default:
		*tail, last.owned = append(make([]byte, 0, smallChunk), *tail...), true
	}
	*tail = append(*tail, p...)
	return true
}

// Write copies p to the end of the Buffer: Reserve, copy and Commit in one. It
// takes all of p, or nothing once the Buffer takes no more data, and never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0 && !b.dropped; {
		n := copy(b.Reserve(), rest)
		b.Commit(n)
		rest = rest[n:]
	}
	return len(p), nil
}

// Finish records how the stream ended: io.EOF (or nil) for a FIN, else the error
// that closed the connection. All data comes before it, also what is added
// after it as long as the Decoder has not reported it: within a batch order does
// not matter. For the same reason a FIN takes the place of a close, and a close
// changes nothing after a FIN; of several closes the first counts.
func (b *Buffer) Finish(err error) {
	if err == nil {
		err = io.EOF
	}
	if b.dropped || b.end != nil && !isEOF(err) {
		return
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
	b.cur, b.unread, b.reserved, b.dropped = nil, 0, 0, true
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
	b.cur, b.chunks, b.head = nil, nil, 0
	b.first = [1]chunk{} // which chunks may have outgrown
	b.unread, b.reserved, b.dropped = 0, 0, true
}

// last returns the last chunk in use, nil if there is none.
func (b *Buffer) last() *chunk {
	if b.head == len(b.chunks) {
		return nil
	}
	return &b.chunks[len(b.chunks)-1]
}

// tail returns where the unread bytes of the last chunk are. There has to be one.
func (b *Buffer) tail() *[]byte {
	if b.head == len(b.chunks)-1 {
		return &b.cur
	}
	return &b.chunks[len(b.chunks)-1].data
}

func (b *Buffer) push(c chunk) {
	// Slide the queue down only when at least half of it is used up, so that the
	// moves stay in proportion to the pushes however long the queue is.
	if len(b.chunks) == cap(b.chunks) && b.head > len(b.chunks)/2 {
		n := copy(b.chunks, b.chunks[b.head:])
		clear(b.chunks[n:])
		b.chunks, b.head = b.chunks[:n], 0
	}
	if b.head == len(b.chunks) {
		b.cur = c.data
	}
	if b.chunks == nil {
		b.chunks = b.first[:0]
	}
	b.chunks = append(b.chunks, c)
}

// advance frees the chunks at the head that are read to their end, so that cur
// has something if any data is unread. What Next has returned of them must not
// be in use any more.
func (b *Buffer) advance() {
	for len(b.cur) == 0 && b.head < len(b.chunks) {
		if b.reserved > 0 && b.head == len(b.chunks)-1 {
			return // somebody is about to write into it
		}
		b.chunks[b.head].release()
		b.head++
		if b.head < len(b.chunks) {
			b.cur = b.chunks[b.head].data
		}
	}
	if b.head == len(b.chunks) {
		b.cur, b.chunks, b.head = nil, b.chunks[:0], 0
	}
}

// peek returns the first n unread bytes, of which there must be as many, without
// reading them: by reference where the first chunk has them, else gathered in
// scratch, which must have room.
func (b *Buffer) peek(scratch []byte, n int) []byte {
	if len(b.cur) >= n {
		return b.cur[:n:n]
	}
	scratch = append(scratch[:0], b.cur...)
	for i := b.head + 1; len(scratch) < n; i++ {
		data := b.chunks[i].data
		scratch = append(scratch, data[:min(len(data), n-len(scratch))]...)
	}
	return scratch
}

// skip reads n bytes, of which there must be as many. Those of the chunk that it
// ends in are kept until the next advance.
func (b *Buffer) skip(n int) {
	b.unread -= n
	for n > len(b.cur) {
		n -= len(b.cur)
		b.cur = b.cur[:0]
		b.advance()
	}
	b.cur = b.cur[n:]
}
