// Package sink stores what the receiver gets.
//
// A sink answers only when what it stored is durable, so that an acknowledged
// upload survives a crash. The URL of a sink names its kind: dir:DIR, ndjson:FILE
// or one that the program adds.
package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"
)

// An Upload is a request to store, but for its body.
type Upload struct {
	Name   string      // to store it under; CheckName holds for it
	Time   time.Time   // when the head of the request had arrived
	Peer   string      // address and port of the client
	Method string      // PUT, POST or PATCH
	Host   string      // authority of the request
	Path   string      // path and query of the request, as they came
	Header http.Header // of the request; not to be changed
	Length int64       // of the body in bytes as announced, -1 if it was not
}

// Receipt says what was stored.
type Receipt struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // of the body, in hexadecimal
}

// Object is something stored, opened for reading.
type Object struct {
	io.ReadSeekCloser
	Modified time.Time
	ETag     string // strong, with its quotes (RFC 9110 §8.8.3); empty if there is none
}

// A Sink stores uploads. It is safe for concurrent use.
//
// It reads a body no faster than it stores it, and keeps no more than a fixed
// amount of it in memory, so that a slow sink slows its clients by QUIC's flow
// control.
type Sink interface {
	// Store reads body to its end and keeps it, replacing what was stored under
	// the same name. It returns after the upload is durable. On any error, of
	// body too, what was stored under the name before is unchanged and nothing else
	// is left. The end of ctx makes it give up.
	Store(ctx context.Context, up Upload, body io.Reader) (Receipt, error)
	// Check tells whether the sink would take an upload now, nil if it would. It
	// is quick, and asked every few seconds.
	Check(ctx context.Context) error
	// Close gives up what the sink holds. What was stored stays.
	Close() error
}

// A Fetcher is a Sink that gives back what it has stored.
type Fetcher interface {
	// Open returns what is stored under name. The error is fs.ErrNotExist if
	// there is nothing.
	Open(ctx context.Context, name string) (Object, error)
}

// An UnavailableError is a sink that cannot be reached now. The upload was not
// stored, or it is unknown whether it was; it may be sent again.
type UnavailableError struct {
	Sink string // its URL, without credentials
	Err  error
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("sink %s is unavailable: %v", e.Sink, e.Err)
}

func (e *UnavailableError) Unwrap() error { return e.Err }

// NameError is a name that a sink does not take.
type NameError struct {
	Name   string
	Reason string
}

// Error has so much of the name as can be one.
func (e *NameError) Error() string { return fmt.Sprintf("name %.*q %s", maxName, e.Name, e.Reason) }

// maxName is the longest name that a sink takes, in bytes. Linux file systems
// take 255, of which a temporary name needs some.
const maxName = 200

// CheckName tells whether name can be stored: one path element of UTF-8, not
// hidden, without what controls a terminal or the direction of text. It is strict
// rather than clever, since names come from the network. Names that look alike are
// different names, and stored as such.
func CheckName(name string) error {
	bad := func(reason string) error { return &NameError{Name: name, Reason: reason} }
	switch {
	case name == "":
		return bad("is empty; use /NAME")
	case len(name) > maxName:
		return bad(fmt.Sprintf("has %d bytes, at most %d fit", len(name), maxName))
	case strings.ContainsAny(name, "/\\"):
		return bad("has a path separator; a name is one path element")
	case strings.HasPrefix(name, "."):
		return bad("starts with a dot; such names are kept for the sink itself")
	case !utf8.ValidString(name):
		return bad("is not UTF-8, which a receipt could not say")
	}
	for _, r := range name {
		switch {
		case unicode.IsControl(r):
			return bad("has a control character")
		case unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp):
			return bad("has a character that makes it look like another one")
		}
	}
	return nil
}

// IsFull tells whether err means that the storage takes no more: no space or
// inodes, over quota, or read-only.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS)
}

// IsNotFound tells whether err means that nothing is stored under the name.
func IsNotFound(err error) bool { return errors.Is(err, fs.ErrNotExist) }
