package main

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// How often a terminal is told how far a bench has come, and what is no terminal.
const (
	progressEvery      = time.Second
	progressEveryInLog = time.Minute
)

// A benchProgress says on standard error how far a bench has come: on one line of a
// terminal, or by a line a minute where there is none.
type benchProgress struct {
	label string
	parts int
	start time.Time

	mu          sync.Mutex
	at          int // the part
	done, total int // turns of the part that have begun, and all of it
	what        string

	stop chan struct{}
	over sync.WaitGroup
}

// startProgress begins with a number of parts, which take about as long as each other.
func startProgress(label string, parts int) *benchProgress {
	p := &benchProgress{label: label, parts: parts, start: time.Now(), stop: make(chan struct{})}
	live := isTerminal(os.Stderr) && os.Getenv("TERM") != "dumb"
	p.over.Go(func() { p.run(live) })
	return p
}

func (p *benchProgress) run(live bool) {
	every := progressEveryInLog
	if live {
		every = progressEvery
		defer fmt.Fprint(os.Stderr, "\r\033[K")
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			width, _, err := term.GetSize(int(os.Stderr.Fd()))
			text := p.text(now)
			switch {
			case !live:
				fmt.Fprintln(os.Stderr, text)
			case err == nil:
				fmt.Fprint(os.Stderr, "\r\033[K"+cut(text, width-1))
			}
		case <-p.stop:
			return
		}
	}
}

// part is told by a part how far it has come: before each turn, with its number.
func (p *benchProgress) part(i int) func(done, total int, what string) {
	return func(done, total int, what string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.at, p.done, p.total, p.what = i, done, total, what
	}
}

// text is the line.
func (p *benchProgress) text(now time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	elapsed := now.Sub(p.start)
	share := float64(p.at) / float64(max(1, p.parts))
	if p.total > 0 {
		share += float64(max(0, p.done-1)) / float64(p.total) / float64(max(1, p.parts))
	}
	var b strings.Builder
	if p.label != "" {
		b.WriteString(p.label + ": ")
	}
	if p.parts > 1 {
		fmt.Fprintf(&b, "part %d of %d, ", p.at+1, p.parts)
	}
	fmt.Fprintf(&b, "%d of %d, %v", p.done, p.total, elapsed.Round(time.Second))
	if share > 0 {
		left := time.Duration(float64(elapsed) * (1 - share) / share)
		fmt.Fprintf(&b, ", about %v left", left.Round(time.Second))
	}
	b.WriteString(": " + cmp.Or(p.what, "begins"))
	return b.String()
}

func (p *benchProgress) close() {
	close(p.stop)
	p.over.Wait()
}

// cut shortens a text to so many columns.
func cut(s string, columns int) string {
	if r := []rune(s); columns > 0 && len(r) > columns {
		return string(r[:columns])
	}
	return s
}
