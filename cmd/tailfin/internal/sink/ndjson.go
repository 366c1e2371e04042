package sink

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// DefaultInline is the longest body, in bytes, that a record has in itself.
const DefaultInline = 64 << 10

// maxPooledLine bounds the memory, in bytes, that is kept for the next record.
const maxPooledLine = 4 * DefaultInline

// NDJSONOptions say what a record has. The zero value is ready to use.
type NDJSONOptions struct {
	// Headers are the fields of a request that go into its record. Nil means
	// Content-Type and User-Agent.
	Headers []string
	// MaxInline is the longest body, in bytes, that goes into the record itself.
	// Zero means DefaultInline.
	MaxInline int
	// BodyDir is the folder for longer ones. Empty means FILE.d, and none for
	// standard output, which then refuses them.
	BodyDir string
}

// A Reopener is a Sink that can open its file anew, after it was moved away.
type Reopener interface {
	Reopen() error
}

// An NDJSON sink writes one line of JSON a request: a record. It is durable before
// Store returns, where the output is a regular file; what a pipe's reader does
// with it is its own affair. Several may append to one file.
//
// A body that is too long for its record becomes a file of its own, before the
// record that names it. A crash in between leaves a body without a record.
type NDJSON struct {
	url     string
	opts    NDJSONOptions
	dirOpts Options
	out     *lineFile

	mu     sync.Mutex
	bodies *Dir // opened for the first body that needs it; under mu
}

var (
	_ Sink     = (*NDJSON)(nil)
	_ Reopener = (*NDJSON)(nil)
)

// OpenNDJSON appends to a file, or to standard output for "-".
func OpenNDJSON(file string, opts Options) (*NDJSON, error) {
	s := &NDJSON{url: "ndjson:" + file, opts: opts.NDJSON, dirOpts: opts}
	s.dirOpts.noResume, s.dirOpts.Registerer = true, nil
	if s.opts.Headers == nil {
		s.opts.Headers = []string{"Content-Type", "User-Agent"}
	}
	if s.opts.MaxInline <= 0 {
		s.opts.MaxInline = DefaultInline
	}
	var err error
	if file == "-" {
		s.out, err = wrapLines(os.Stdout, opts.logger())
	} else {
		if s.opts.BodyDir == "" {
			s.opts.BodyDir = file + ".d"
		}
		s.out, err = openLines(file, opts.logger())
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// record is a line.
type record struct {
	Time    string            `json:"time"` // first: it tells a torn record from what is none
	Peer    string            `json:"peer"`
	Method  string            `json:"method"`
	Host    string            `json:"host"`
	Path    string            `json:"path"`
	Name    string            `json:"name"`
	Headers map[string]string `json:"headers,omitempty"`
	Size    int64             `json:"size"`
	SHA256  string            `json:"sha256"`
	// One of these: the body as it is if it is UTF-8, in base64, or where it is.
	Body       *string `json:"body,omitempty"`
	BodyBase64 []byte  `json:"body_base64,omitempty"`
	BodyPath   string  `json:"body_path,omitempty"`
}

// recordStart is how each record begins.
const recordStart = `{"time":"`

var lineBuffers = sync.Pool{New: func() any { return &bytes.Buffer{} }}

func lineBuffer() *bytes.Buffer {
	b, _ := lineBuffers.Get().(*bytes.Buffer)
	b.Reset()
	return b
}

func freeLineBuffer(b *bytes.Buffer) {
	if b.Cap() <= maxPooledLine {
		lineBuffers.Put(b)
	}
}

// Store writes the record of an upload.
func (s *NDJSON) Store(ctx context.Context, up Upload, body io.Reader) (Receipt, error) {
	r, err := s.store(ctx, up, body)
	return r, unavailable(s.url, err)
}

func (s *NDJSON) store(ctx context.Context, up Upload, body io.Reader) (Receipt, error) {
	if err := CheckName(up.Name); err != nil {
		return Receipt{}, err
	}
	if up.Length > int64(s.opts.MaxInline) && s.opts.BodyDir == "" {
		return Receipt{}, s.tooLong()
	}
	inline := lineBuffer()
	defer freeLineBuffer(inline)
	if _, err := inline.ReadFrom(io.LimitReader(contextReader{ctx, body}, int64(s.opts.MaxInline)+1)); err != nil {
		return Receipt{}, err
	}
	rec := s.record(up)
	var stored *Dir
	if inline.Len() <= s.opts.MaxInline {
		sum := sha256.Sum256(inline.Bytes())
		rec.Size, rec.SHA256 = int64(inline.Len()), hex.EncodeToString(sum[:])
		if utf8.Valid(inline.Bytes()) {
			text := inline.String()
			rec.Body = &text
		} else {
			rec.BodyBase64 = inline.Bytes()
		}
	} else {
		dir, err := s.bodyDir()
		if err != nil {
			return Receipt{}, err
		}
		file := "body-" + strings.ToLower(rand.Text())
		r, err := dir.Store(ctx, Upload{Name: file}, io.MultiReader(inline, body))
		if err != nil {
			return Receipt{}, err
		}
		stored = dir
		rec.Size, rec.SHA256, rec.BodyPath = r.Bytes, r.SHA256, filepath.Join(s.opts.BodyDir, file)
	}
	if err := s.write(rec); err != nil {
		if stored != nil {
			_ = removeAt(stored.top.File, filepath.Base(rec.BodyPath))
		}
		return Receipt{}, err
	}
	return Receipt{Name: up.Name, Bytes: rec.Size, SHA256: rec.SHA256}, nil
}

func (s *NDJSON) record(up Upload) *record {
	if up.Time.IsZero() {
		up.Time = time.Now()
	}
	rec := &record{
		Time: up.Time.UTC().Format(time.RFC3339Nano), Peer: up.Peer, Method: up.Method,
		Host: up.Host, Path: up.Path, Name: up.Name,
	}
	for _, name := range s.opts.Headers {
		if values := up.Header.Values(name); len(values) > 0 {
			if rec.Headers == nil {
				rec.Headers = make(map[string]string, len(s.opts.Headers))
			}
			rec.Headers[strings.ToLower(name)] = strings.Join(values, ", ") // RFC 9110 §5.3
		}
	}
	return rec
}

// write returns when the record is durable.
func (s *NDJSON) write(rec *record) error {
	buf := lineBuffer()
	defer freeLineBuffer(buf)
	enc := json.NewEncoder(buf) // ends the line too
	enc.SetEscapeHTML(false)
	if err := enc.Encode(rec); err != nil {
		return err
	}
	return s.out.write(buf.Bytes())
}

func (s *NDJSON) tooLong() error {
	return &TooLongError{Limit: int64(s.opts.MaxInline), Remedy: "give the receiver a folder for longer ones (--record-bodies), or store to ndjson:FILE"}
}

// bodyDir is where long bodies go.
func (s *NDJSON) bodyDir() (*Dir, error) {
	if s.opts.BodyDir == "" {
		return nil, s.tooLong()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bodies == nil {
		dir, err := OpenDir(s.opts.BodyDir, s.dirOpts)
		if err != nil {
			return nil, err
		}
		s.bodies = dir
	}
	return s.bodies, nil
}

// Check tells whether the file system has room and can be written.
func (s *NDJSON) Check(context.Context) error { return s.out.check() }

// Reopen opens the file anew, for those who rotate logs. On an error it goes on
// with the one it has.
func (s *NDJSON) Reopen() error { return s.out.reopen() }

// Close closes the file.
func (s *NDJSON) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bodies != nil {
		_ = s.bodies.Close()
	}
	return s.out.close()
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// A TooLongError is a body that is longer than the sink takes.
type TooLongError struct {
	Limit  int64
	Remedy string
}

func (e *TooLongError) Error() string {
	return fmt.Sprintf("the body is longer than %d bytes, which is the most that is taken; %s", e.Limit, e.Remedy)
}
