// Package logging makes the loggers of the daemon. A record is one line, whatever a
// peer has made it say: slog quotes what would end the line or a value, values are cut at
// a length, and nothing moves the terminal that shows them.
package logging

import (
	"io"
	"log/slog"
)

// Options say how to log.
type Options struct {
	JSON  bool
	Level slog.Leveler
	// Repeat is how many records of one message are written in a second; the rest
	// is counted. Zero is any number.
	Repeat int
	// Tee, if not nil, wraps the handler that writes.
	Tee func(slog.Handler) slog.Handler
}

// New makes a logger that bounds repeats, and one for access lines, that does not.
func New(w io.Writer, opts Options) (log, access *slog.Logger) {
	handlerOpts := &slog.HandlerOptions{Level: opts.Level, ReplaceAttr: bounded}
	w = visible{w}
	var h slog.Handler = slog.NewTextHandler(w, handlerOpts)
	if opts.JSON {
		h = slog.NewJSONHandler(w, handlerOpts)
	}
	if opts.Tee != nil {
		h = opts.Tee(h)
	}
	access = slog.New(h)
	if opts.Repeat > 0 {
		h = newRepeats(h, opts.Repeat)
	}
	return slog.New(h), access
}
