package sink

import (
	"context"
	"errors"
	"io"
	"sync"
)

// smallSize is the most of a body, in bytes, that is read before a file is made
// for it: a small upload that dawdles holds this much and no file descriptor.
const smallSize = 16 << 10

// chunkSize is how much of a longer body goes to the file at a time, in bytes.
const chunkSize = 128 << 10

// smallBuffers and chunkBuffers have slices of these sizes.
var (
	smallBuffers = sync.Pool{New: func() any { b := make([]byte, smallSize); return &b }}
	chunkBuffers = sync.Pool{New: func() any { b := make([]byte, chunkSize); return &b }}
)

func buffer(pool *sync.Pool) *[]byte {
	b, _ := pool.Get().(*[]byte)
	return b
}

// readFull fills buf from body. The error is io.EOF at the end of body, also
// with n > 0, and nil only if buf is full.
func readFull(ctx context.Context, body io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		if err = context.Cause(ctx); err != nil {
			return n, err
		}
		var m int
		m, err = body.Read(buf[n:])
		n += m
	}
	return n, err
}

// copyChunks reads body to its end and gives it to write in pieces, also what
// came before an error of body. The slice is write's until it returns.
func copyChunks(ctx context.Context, body io.Reader, write func([]byte) error) error {
	buf := buffer(&chunkBuffers)
	defer chunkBuffers.Put(buf)
	for {
		n, err := readFull(ctx, body, *buf)
		if n > 0 {
			if werr := write((*buf)[:n]); werr != nil {
				return werr
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
