package certs

import (
	"context"
	"log/slog"
	"sync/atomic"

	"go.uber.org/zap/zapcore"
)

// A slogCore has what certmagic logs by zap come out of a slog.Handler. Its
// information is about single locks and requests: it becomes debugging, and what
// an operator wants to know of it this package says itself.
type slogCore struct {
	handler slog.Handler
	quiet   *atomic.Bool // while it is true, all is for debugging
}

var _ zapcore.Core = (*slogCore)(nil)

func (c *slogCore) level(level zapcore.Level) slog.Level {
	switch {
	case level < zapcore.WarnLevel, c.quiet.Load():
		return slog.LevelDebug
	case level == zapcore.WarnLevel:
		return slog.LevelWarn
	}
	return slog.LevelError
}

// Enabled implements zapcore.LevelEnabler.
func (c *slogCore) Enabled(level zapcore.Level) bool {
	return c.handler.Enabled(context.Background(), c.level(level))
}

// With implements zapcore.Core.
func (c *slogCore) With(fields []zapcore.Field) zapcore.Core {
	handler := c.handler
	for i, f := range fields {
		if f.Type == zapcore.NamespaceType {
			return (&slogCore{handler.WithGroup(f.Key), c.quiet}).With(fields[i+1:])
		}
		handler = handler.WithAttrs(slogAttrs(fields[i : i+1]))
	}
	return &slogCore{handler, c.quiet}
}

// Check implements zapcore.Core.
func (c *slogCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write implements zapcore.Core.
func (c *slogCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	record := slog.NewRecord(entry.Time, c.level(entry.Level), entry.Message, 0)
	if entry.LoggerName != "" {
		record.AddAttrs(slog.String("logger", entry.LoggerName))
	}
	record.AddAttrs(slogAttrs(fields)...)
	return c.handler.Handle(context.Background(), record)
}

// Sync implements zapcore.Core.
func (*slogCore) Sync() error { return nil }

// slogAttrs are fields as zap would encode them. Those after a namespace are a
// group of its name.
func slogAttrs(fields []zapcore.Field) []slog.Attr {
	attrs := make([]slog.Attr, 0, len(fields))
	for i, f := range fields {
		if f.Type == zapcore.NamespaceType {
			return append(attrs, slog.Attr{Key: f.Key, Value: slog.GroupValue(slogAttrs(fields[i+1:])...)})
		}
		enc := zapcore.NewMapObjectEncoder()
		f.AddTo(enc) // one entry, or two for an error with details
		for key, value := range enc.Fields {
			attrs = append(attrs, slog.Any(key, value))
		}
	}
	return attrs
}
