package client

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"
	"time"
)

// A source is the file of an upload. A regular file can be read again from any
// offset; standard input and the like can be read once.
type source struct {
	file     *os.File
	size     int64     // of a regular file, else -1
	modified time.Time // when it was opened
	stdin    bool

	mu     sync.Mutex // of what the body of one attempt and the next one touch
	sum    hash.Hash
	summed int64 // bytes from the start that sum has seen
	used   bool  // something was read of what can be read once
}

// openSource opens path; - is standard input.
func openSource(path string) (*source, error) {
	if path == "-" {
		return &source{file: os.Stdin, size: -1, stdin: true, sum: sha256.New()}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, &FileError{Path: path, Err: err}
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = errors.New("is a folder")
	}
	if err != nil {
		_ = f.Close()
		return nil, &FileError{Path: path, Err: err}
	}
	s := &source{file: f, size: -1, modified: info.ModTime(), sum: sha256.New()}
	if info.Mode().IsRegular() {
		s.size = info.Size()
	}
	return s, nil
}

func (s *source) regular() bool { return s.size >= 0 }

// close leaves standard input alone: a Read of it may block for good.
func (s *source) close() {
	if !s.stdin {
		_ = s.file.Close()
	}
}

// changed tells a file that is not what it was when it was opened.
func (s *source) changed() error {
	if !s.regular() {
		return nil
	}
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() != s.size || !info.ModTime().Equal(s.modified) {
		return &FileError{Path: s.file.Name(), Err: errors.New("changed while it was sent, and what was sent of it does not fit the rest; upload it again")}
	}
	return nil
}

// errReadOnce is a source that is gone with the attempt that read it.
var errReadOnce = errors.New("the input was read and cannot be sent again; put a file to be able to go on")

// body returns the bytes from offset on, so many of them, all if length is
// negative. moved is called with each number of bytes that were read.
func (s *source) body(offset, length int64, moved func(int64)) (io.ReadCloser, error) {
	if !s.regular() {
		s.mu.Lock()
		used := s.used
		s.mu.Unlock()
		if used {
			return nil, errReadOnce
		}
		return &sourceBody{source: s, r: s.file, moved: moved}, nil
	}
	if length < 0 {
		length = s.size - offset
	}
	if err := s.sumTo(offset); err != nil {
		return nil, &FileError{Path: s.file.Name(), Err: err}
	}
	return &sourceBody{source: s, r: io.NewSectionReader(s.file, offset, length), at: offset, moved: moved}, nil
}

// sumTo lets the sum see what an earlier run has sent.
func (s *source) sumTo(offset int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if offset <= s.summed {
		return nil
	}
	n, err := io.Copy(s.sum, io.NewSectionReader(s.file, s.summed, offset-s.summed))
	s.summed += n
	if err == nil && s.summed < offset {
		err = fmt.Errorf("ends at byte %d, where the server has %d", s.summed, offset)
	}
	return err
}

// sha256 is that of all that was read.
func (s *source) sha256() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return hex.EncodeToString(s.sum.Sum(nil))
}

// A sourceBody is the body of one attempt.
type sourceBody struct {
	source *source
	r      io.Reader
	at     int64 // offset of the next byte
	moved  func(int64)

	mu     sync.Mutex
	closed bool
}

func (b *sourceBody) Read(p []byte) (int, error) {
	if b.isClosed() {
		return 0, os.ErrClosed
	}
	if !b.source.regular() {
		b.source.mu.Lock()
		b.source.used = true
		b.source.mu.Unlock()
	}
	n, err := b.r.Read(p)
	if n > 0 && !b.taken(p[:n]) {
		return 0, os.ErrClosed
	}
	return n, err
}

// taken counts bytes that were read, unless the attempt has ended meanwhile: then
// they are those of another body.
func (b *sourceBody) taken(p []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	s := b.source
	s.mu.Lock()
	if end := b.at + int64(len(p)); end > s.summed {
		s.sum.Write(p[s.summed-b.at:])
		s.summed = end
	}
	s.mu.Unlock()
	b.at += int64(len(p))
	b.moved(int64(len(p)))
	return true
}

func (b *sourceBody) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// Close ends the attempt's use of the source, which stays open.
func (b *sourceBody) Close() error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	return nil
}
