package client

import (
	"errors"
	"io"
	"os"
)

// A target takes the body of a download.
type target interface {
	io.Writer
	// begin says what body is about to be written, from its first byte on.
	begin(held) error
	// restart gives up what was written.
	restart() error
	// commit ends a body that is whole.
	commit() error
	// abandon ends a body that is not, and says what is kept of it and how to go
	// on; empty if that is nothing worth a word.
	abandon() string
}

// held is what is known of a body, and how much of it has come.
type held struct {
	URL string `json:"url"`
	validator
	Length int64 `json:"length"` // of the body in bytes, -1 if it is not known
	Bytes  int64 `json:"bytes"`  // that are here
}

// resumable tells that the rest of the body can be asked for.
func (h *held) resumable() bool { return h.Bytes > 0 && !h.none() }

// errWritten is a target that cannot take back what it was given.
var errWritten = errors.New("what was already written to the output cannot be taken back")

// A streamTarget is written to as the bytes come: standard output, a device.
type streamTarget struct {
	w       io.Writer
	close   func() error // nil for what is not ours to close
	written bool
}

var _ target = (*streamTarget)(nil)

func (t *streamTarget) Write(p []byte) (int, error) {
	t.written = t.written || len(p) > 0
	return t.w.Write(p)
}

func (t *streamTarget) begin(held) error { return nil }

func (t *streamTarget) restart() error {
	if t.written {
		return errWritten
	}
	return nil
}

func (t *streamTarget) commit() error {
	if t.close == nil {
		return nil
	}
	return t.close()
}

func (t *streamTarget) abandon() string {
	_ = t.commit()
	return ""
}

// discard takes a body that is only checked.
type discard struct{ io.Writer }

var _ target = discard{}

func (discard) begin(held) error { return nil }
func (discard) restart() error   { return nil }
func (discard) commit() error    { return nil }
func (discard) abandon() string  { return "" }

// openTarget returns the target for path. Anything but a regular file is written
// to in place: a rename would put a file where a device was.
func openTarget(path, url string, resume bool) (target, held, error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return nil, held{}, &FileError{path, errors.New("is a folder"), true}
	case err == nil && !info.Mode().IsRegular():
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return nil, held{}, &FileError{path, err, true}
		}
		return &streamTarget{w: f, close: f.Close}, held{Length: -1}, nil
	}
	part, err := openPart(path, url, resume)
	if err != nil {
		return nil, held{}, &FileError{path, err, true}
	}
	return part, part.held, nil
}
