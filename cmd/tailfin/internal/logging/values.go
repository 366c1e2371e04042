package logging

import (
	"fmt"
	"log/slog"
	"strings"
	"unicode/utf8"
)

// maxValue bounds what a line has of one value, in bytes. Paths, names and errors may be
// a peer's, of any length, and readers of logs split lines that are too long for them,
// as journald does at 48 KiB: the rest would pass for a line of its own.
const maxValue = 1 << 10

// bounded is for slog.HandlerOptions.ReplaceAttr.
func bounded(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindString:
		if s := a.Value.String(); len(s) > maxValue {
			a.Value = slog.StringValue(clip(s))
		}
	case slog.KindAny:
		if err, ok := a.Value.Any().(error); ok {
			a.Value = slog.StringValue(clip(errorText(err)))
		}
	}
	return a
}

// clip is what a line has of s.
func clip(s string) string {
	if len(s) <= maxValue {
		return s
	}
	n := maxValue
	for n > maxValue-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return fmt.Sprintf("%s… (%d bytes)", strings.Clone(s[:n]), len(s))
}

// errorText is what an error says. One that panics, such as a nil pointer, must not end
// the process for having been logged, as it would not with slog.
func errorText(err error) (text string) {
	defer func() {
		if p := recover(); p != nil {
			text = fmt.Sprintf("!PANIC: %v", p)
		}
	}()
	return err.Error()
}
