package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// A Resumer is a Sink that keeps what arrived of an upload whose client was cut
// off, and lets it go on from there. It has what the server needs for
// draft-ietf-httpbis-resumable-upload.
//
// An upload has one writer. A call on an upload that is being written ends the
// former Append first, which then returns ErrSuperseded: its client has lost the
// connection, or it would not ask.
type Resumer interface {
	Sink
	// Create begins an upload of which nothing has arrived. length is that of all of
	// it in bytes, -1 if it is not known. It returns after the upload is durable. The
	// error is ErrTooMany if the sink keeps as many as it may.
	Create(ctx context.Context, up Upload, length int64) (Partial, error)
	// Append adds body to an upload. What arrived before an error, of body too,
	// stays, and is durable when Append returns; only on an error of the storage
	// it may fall back to the last offset that was told. It may close body, to end a
	// read of it.
	Append(ctx context.Context, id string, part Part, body io.ReadCloser) (Partial, error)
	// Find returns how far an upload has come. All of that is durable.
	Find(ctx context.Context, id string) (Partial, error)
	// Cancel removes an upload and what arrived of it.
	Cancel(ctx context.Context, id string) error
}

// A Part is a request that continues an upload, but for its body.
type Part struct {
	Offset   int64 // of the body in the upload, in bytes; that of the upload so far
	Length   int64 // of the whole upload, -1 if the request does not say
	Complete bool  // the upload ends with this body, and is then stored under its name
}

// A Partial says how far an upload has come.
type Partial struct {
	ID      string // unguessable, of letters and digits
	Offset  int64  // bytes that are durable
	Length  int64  // of all of it, -1 if it is not known yet
	Expires time.Time
	Receipt *Receipt // once it is complete and stored
}

var (
	// ErrNoUpload is an upload that does not exist, or no more.
	ErrNoUpload = fmt.Errorf("no such upload: it has expired, was cancelled or never was: %w", fs.ErrNotExist)
	// ErrSuperseded ends an Append when a later request asks for the same upload.
	ErrSuperseded = errors.New("another request has taken this upload over")
	// ErrTooMany is a sink that keeps as many unfinished uploads as it may.
	ErrTooMany = errors.New("too many unfinished uploads are kept; send this one whole, or later")
)

// An OffsetError is a Part that does not begin where the upload ends.
type OffsetError struct {
	Want, Got int64
	Complete  bool // the upload is stored and takes no more
}

func (e *OffsetError) Error() string {
	if e.Complete {
		return fmt.Sprintf("the upload is complete with %d bytes", e.Want)
	}
	return fmt.Sprintf("the upload has %d bytes and goes on from there, not from %d", e.Want, e.Got)
}

// A LengthError is an upload that has not the length it was said to have.
type LengthError struct {
	Want, Got int64
}

func (e *LengthError) Error() string {
	return fmt.Sprintf("the upload was said to have %d bytes, and now %d", e.Want, e.Got)
}
