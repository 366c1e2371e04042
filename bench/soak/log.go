package soak

import (
	"bytes"
	"regexp"
	"strings"
	"sync"
)

// What is kept of a log: its last lines, and those of trouble.
const (
	maxLogLines = 60
	maxLogLine  = 2000
)

// A log takes what a process writes to its standard error, for good: not more of it is kept
// than is wanted after a crash.
type log struct {
	mu      sync.Mutex
	part    []byte // of the line that has not ended yet
	last    []string
	panics  int
	ready   chan ready // gets the line that begins with "ready", once
	waiting bool
}

// ready is what a `tailfin serve` says when it is.
type ready struct{ listen, backend, admin string }

func newLog() *log { return &log{ready: make(chan ready, 1), waiting: true} }

var readyLine = regexp.MustCompile(`^ready listen=(\S+) backend=(\S+) .*\badmin=(\S+)`)

// Write takes a part of it.
func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for rest := p; len(rest) > 0; {
		line, after, ends := bytes.Cut(rest, []byte("\n"))
		l.part = append(l.part, line[:min(len(line), maxLogLine-len(l.part))]...)
		if rest = after; ends {
			l.line(string(l.part))
			l.part = l.part[:0]
		}
	}
	return len(p), nil
}

func (l *log) line(text string) {
	if m := readyLine.FindStringSubmatch(text); m != nil && l.waiting {
		l.waiting = false
		l.ready <- ready{m[1], m[2], m[3]}
	}
	// Of the runtime, and of a handler that is recovered from.
	if strings.HasPrefix(text, "panic:") || strings.HasPrefix(text, "fatal error:") || strings.Contains(text, "panicked") {
		l.panics++
	}
	if l.last = append(l.last, text); len(l.last) > maxLogLines {
		l.last = l.last[len(l.last)-maxLogLines:]
	}
}

// tail is its last lines.
func (l *log) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(append(l.last[:len(l.last):len(l.last)], string(l.part)), "\n")
}

// panicked is how often something has.
func (l *log) panicked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.panics
}
