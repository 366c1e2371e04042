package soak

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
)

// A content is bytes that no other number has, and that can be made from any offset on:
// nobody has to keep them.
type content struct {
	id   uint64
	size int64
}

// word is the nth eight bytes (SplitMix64).
func (c content) word(n uint64) uint64 {
	z := (c.id<<32 ^ n) * 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// fill sets p to what is at off.
func (c content) fill(p []byte, off int64) {
	var w [8]byte
	for i := 0; i < len(p); {
		at := off + int64(i)
		binary.LittleEndian.PutUint64(w[:], c.word(uint64(at)>>3))
		i += copy(p[i:], w[at&7:])
	}
}

// sum is the SHA-256 of all.
func (c content) sum() string {
	h := sha256.New()
	_, _ = io.Copy(h, c.from(0))
	return hex.EncodeToString(h.Sum(nil))
}

// A contentReader reads a content.
type contentReader struct {
	content
	off int64
}

// from reads from an offset on.
func (c content) from(off int64) *contentReader { return &contentReader{c, off} }

func (r *contentReader) Read(p []byte) (int, error) {
	if r.off >= r.size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), r.size-r.off)]
	r.fill(p, r.off)
	r.off += int64(len(p))
	return len(p), nil
}

// Close has nothing to close.
func (r *contentReader) Close() error { return nil }

// A filler makes the bytes at an offset.
type filler func(p []byte, off int64)

// pattern is what GET /bytes/N is answered with.
func pattern(p []byte, off int64) {
	for i := range p {
		at := off + int64(i)
		p[i] = byte(at*7 + at>>8)
	}
}

// errCorrupt is a body that is not what it must be.
var errCorrupt = errors.New("corrupt")

// compareBody reads a body that must be of size bytes, as fill has them, and returns how
// many it had. pause, if there is one, is called after each read.
func compareBody(r io.Reader, size int64, fill filler, pause func()) (int64, error) {
	got, want := make([]byte, 32<<10), make([]byte, 32<<10)
	off := int64(0)
	for {
		n, err := r.Read(got)
		if over := off + int64(n) - size; over > 0 {
			return off, fmt.Errorf("%w: at least %d bytes more than %d", errCorrupt, over, size)
		}
		fill(want[:n], off)
		if !bytes.Equal(got[:n], want[:n]) {
			return off, fmt.Errorf("%w: other bytes from %d on", errCorrupt, off+int64(differ(got[:n], want[:n])))
		}
		switch off += int64(n); {
		case errors.Is(err, io.EOF) && off < size:
			return off, fmt.Errorf("%w: %d bytes of %d, and their end", errCorrupt, off, size)
		case errors.Is(err, io.EOF):
			return off, nil
		case err != nil:
			return off, err
		}
		if pause != nil {
			pause()
		}
	}
}

// differ is the first index at which two of the same length do.
func differ(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return len(a)
}

// compareFile holds a file against a content, and removes it. The error is errCorrupt if it
// is another, and os.ErrNotExist if there is none.
func compareFile(path string, c content) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = compareBody(f, c.size, c.fill, nil)
	return errors.Join(err, f.Close(), os.Remove(path))
}
