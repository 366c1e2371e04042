package client

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cheggaaa/pb/v3"
	"golang.org/x/term"
)

// refresh is how often the line is drawn.
const refresh = 200 * time.Millisecond

// The line for a terminal of usual width, and for one too narrow for a bar.
const (
	wideLine   = `{{string . "files"}}{{counters . "%s / %s" "%s"}} {{bar . "[" "=" ">" " " "]"}} {{speed . "%s/s" "-"}} {{rtime . "ETA %s" "%s" "ETA -"}}`
	narrowLine = `{{percent . "%.0f%%" ""}} {{speed . "%s/s" "-"}} {{rtime . "%s" "%s" "-"}}`
	wideEnough = 60 // columns
)

// clearLine takes the cursor to the first column and erases to the end of the line.
const clearLine = "\r\x1b[K"

// A Progress is one line on a terminal that shows how far all transfers of a command
// are. It is safe for concurrent use; a nil Progress shows nothing.
type Progress struct {
	tty   *os.File
	files int64 // that are to be transferred

	done, moved     atomic.Int64 // transfers that have ended, and bytes of all
	sized, expected atomic.Int64 // transfers whose size is known, and their bytes

	mu    sync.Mutex // of the terminal, and the bar
	bar   *pb.ProgressBar
	drawn bool

	once sync.Once // of Close
	stop chan struct{}
	over sync.WaitGroup
}

// NewProgress shows the progress of so many transfers on tty. It returns nil if tty
// is no terminal, or one that cannot redraw a line.
func NewProgress(tty *os.File, files int) *Progress {
	if kind := os.Getenv("TERM"); !IsTerminal(tty) || kind == "dumb" || kind == "" {
		return nil
	}
	p := &Progress{tty: tty, files: int64(files), stop: make(chan struct{})}
	p.bar = pb.New64(0).Set(pb.Bytes, true).Set(pb.Static, true).Set(pb.Terminal, true).Set(pb.Color, false)
	p.bar.Start()
	p.over.Go(p.run)
	return p
}

func (p *Progress) run() {
	ticker := time.NewTicker(refresh)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.mu.Lock()
			p.draw()
			p.mu.Unlock()
		case <-p.stop:
			return
		}
	}
}

// draw writes the line. The caller holds mu.
func (p *Progress) draw() {
	width, _, err := term.GetSize(int(p.tty.Fd()))
	if err != nil || width < 2 {
		return
	}
	line := wideLine
	if width < wideEnough {
		line = narrowLine
	}
	if p.files > 1 {
		p.bar.Set("files", fmt.Sprintf("%d of %d  ", p.done.Load(), p.files))
	}
	// A character in the last column would make some terminals begin a new line.
	p.bar.SetTemplateString(line).SetWidth(width - 1)
	p.bar.SetTotal(p.total()).SetCurrent(max(p.moved.Load(), 0))
	_, _ = io.WriteString(p.tty, clearLine+pb.StripString(p.bar.String(), width-1))
	p.drawn = true
}

// total takes transfers whose size is not known for as long as the others are. It is
// unknown, 0, if what has come shows that it was wrong.
func (p *Progress) total() int64 {
	sized, expected := p.sized.Load(), p.expected.Load()
	if sized == 0 {
		return 0
	}
	if sized < p.files {
		expected = int64(float64(expected) / float64(sized) * float64(p.files))
	}
	if expected < p.moved.Load() {
		return 0
	}
	return expected
}

// Add counts bytes of any transfer; n is negative for those to be sent again.
func (p *Progress) Add(n int64) {
	if p != nil {
		p.moved.Add(n)
	}
}

// Expect says that so many further transfers have n bytes together.
func (p *Progress) Expect(transfers int, n int64) {
	if p != nil {
		p.expected.Add(n)
		p.sized.Add(int64(transfers))
	}
}

// Done counts a transfer that has ended.
func (p *Progress) Done() {
	if p != nil {
		p.done.Add(1)
	}
}

// Print writes text to w, which may be the same terminal, without a trace of the
// progress in it.
func (p *Progress) Print(w io.Writer, text string) {
	if p == nil {
		_, _ = io.WriteString(w, text)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	_, _ = io.WriteString(w, text)
}

func (p *Progress) clear() {
	if p.drawn {
		_, _ = io.WriteString(p.tty, clearLine)
		p.drawn = false
	}
}

// Close takes the line off the terminal.
func (p *Progress) Close() {
	if p == nil {
		return
	}
	p.once.Do(func() {
		close(p.stop)
		p.over.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.clear()
	})
}

// IsTerminal tells whether f is one.
func IsTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// Size is a number of bytes as people read it.
func Size(n int64) string {
	return pb.New64(0).Set(pb.Bytes, true).Format(n)
}
