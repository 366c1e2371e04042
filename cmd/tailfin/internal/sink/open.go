package sink

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Options are for every kind of sink; each takes what concerns it. The zero
// value is ready to use.
type Options struct {
	// Logger gets what a sink did by itself: what it removed, or mended at its
	// start. Nil means slog.Default.
	Logger *slog.Logger
	// Registerer gets the sink's own metrics. Nil means none.
	Registerer prometheus.Registerer
	// MaxWriters bounds the files that are written at once. Further uploads wait, by
	// flow control, and after 30 s meet an UnavailableError. Zero means half of
	// the file descriptors that the process may have, and at most 4096.
	MaxWriters int
	// Resume bounds the uploads that may be continued.
	Resume ResumeLimits
	// NDJSON says what a record has.
	NDJSON NDJSONOptions
	// Kinds are kinds of sinks beside those of this package.
	Kinds []Kind

	noResume bool // a Dir for what another sink keeps
}

func (o *Options) logger() *slog.Logger {
	if o.Logger == nil {
		return slog.Default()
	}
	return o.Logger
}

// ResumeLimits bound the uploads that have not ended and may be continued. In each
// zero is a default.
type ResumeLimits struct {
	// MaxAge is how long one is kept after the last byte came. Zero means 24 h.
	MaxAge time.Duration
	// MaxUploads bounds their number, and so twice as many files. Zero means 1000.
	MaxUploads int
	// MaxBytes bounds what has arrived of them together, in bytes. What they are said to
	// become counts for nothing: anyone may say so. Zero means 64 GiB.
	MaxBytes int64
}

// A Kind of sinks is what a URL's scheme stands for.
type Kind struct {
	Schemes []string // without colon
	Forms   []string // of its URLs, for messages: dir:DIR
	// Open makes the sink. Nil is for a scheme that the program serves by
	// other means than a Sink.
	Open func(ctx context.Context, url string, opts Options) (Sink, error)
}

// kinds are those of this package.
var kinds = []Kind{
	{Schemes: []string{"dir"}, Forms: []string{"dir:DIR"}, Open: func(_ context.Context, url string, opts Options) (Sink, error) {
		dir := strings.TrimPrefix(url, "dir:")
		if dir == "" {
			return nil, fmt.Errorf("%s names no folder; use dir:DIR, for example dir:./received", url)
		}
		return OpenDir(dir, opts)
	}},
	{Schemes: []string{"ndjson"}, Forms: []string{"ndjson:-", "ndjson:FILE"}, Open: func(_ context.Context, url string, opts Options) (Sink, error) {
		file := strings.TrimPrefix(url, "ndjson:")
		if file == "" {
			return nil, fmt.Errorf("%s names no file; use ndjson:FILE, for example ndjson:./received.ndjson, or ndjson:- for standard output", url)
		}
		return OpenNDJSON(file, opts)
	}},
}

// Open makes the sink that a URL names. ctx bounds the opening only.
func Open(ctx context.Context, url string, opts Options) (Sink, error) {
	all := slices.Concat(kinds, opts.Kinds)
	scheme, _, ok := strings.Cut(url, ":")
	var forms []string
	for _, k := range all {
		forms = append(forms, k.Forms...)
		if !ok || !slices.Contains(k.Schemes, scheme) {
			continue
		}
		if k.Open == nil {
			return nil, fmt.Errorf("%q is no place to store", url)
		}
		return k.Open(ctx, url, opts)
	}
	return nil, fmt.Errorf("%q is not a sink; use one of %s, for example dir:./received", url, strings.Join(forms, ", "))
}

// Redact gives raw without its credentials, for messages. It takes out too much
// rather than too little where raw is not well-formed.
func Redact(raw string) string {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return raw
	}
	at := strings.LastIndexByte(rest, '@')
	if at < 0 {
		return raw
	}
	return scheme + "://" + rest[at+1:]
}
