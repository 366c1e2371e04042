package soak

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/bench/proc"
)

// roleLoad is the process of the clients.
const roleLoad = "soak-load"

// Roles are what a program that calls Run must give to proc.Child.
func Roles() map[string]proc.Role { return map[string]proc.Role{roleLoad: proc.RoleOf(loadRole)} }

// loadConfig is what the process of the clients is given.
type loadConfig struct {
	Addr   string `json:"addr"`   // of the server
	Stored string `json:"stored"` // where it stores
	Root   string `json:"root"`   // for files of clients
	Seed   uint64 `json:"seed"`

	Clients float64 `json:"clients"` // as in Config
}

// The words that the process is told, one a line, with an argument. It answers each with a
// loadReport.
const (
	wordOn      = "on"      // a fault of this kind has begun
	wordOff     = "off"     // it has ended
	wordDropped = "dropped" // datagrams, within so many seconds
	wordStats   = "stats"
	wordStop    = "stop"  // begin no more; answered when all clients have left
	wordSweep   = "sweep" // look a last time for what was not waited for
)

// A loadReport is what the clients have done so far, and what their process holds.
type loadReport struct {
	Kinds      map[string]Tally `json:"kinds"`
	Failures   map[string]int64 `json:"failures"` // in faults of the network, by class
	Troubles   []string         `json:"troubles"`
	Heap       float64          `json:"heap"`
	Goroutines int              `json:"goroutines"`
	Error      string           `json:"error,omitempty"`
}

// A load has the clients.
type load struct {
	loadConfig
	tallies
	windows windows
	ids     atomic.Uint64 // of contents
	doubts  doubts

	ctx  context.Context // ends what does not end by itself
	stop chan struct{}   // closed when no more is to be begun
	all  sync.WaitGroup
}

// stopPatience bounds what the clients have to do yet when they are to stop.
const stopPatience = 2 * requestTimeout

// loadRole is the process.
func loadRole(c loadConfig, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	l := &load{loadConfig: c, ctx: ctx, stop: make(chan struct{})}
	l.start()
	say := json.NewEncoder(out)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		word, argument, _ := strings.Cut(lines.Text(), " ")
		err := l.obey(word, argument, cancel)
		r := l.report()
		if err != nil {
			r.Error = err.Error()
		}
		if err := say.Encode(r); err != nil {
			return err
		}
		if word == "end" { // as proc.Process has it
			return nil
		}
	}
	return nil
}

func (l *load) obey(word, argument string, cancel func()) error {
	now := time.Now()
	switch word {
	case wordOn:
		l.windows.on(Kind(argument), now)
	case wordOff:
		l.windows.off(Kind(argument), now)
	case wordDropped:
		var s float64
		if _, err := fmt.Sscan(argument, &s); err != nil {
			return err
		}
		l.windows.dropped(seconds(s), now)
	case wordStop:
		close(l.stop)
		ended := make(chan struct{})
		go func() { l.all.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(stopPatience):
			cancel()
			buf := make([]byte, 1<<16)
			return fmt.Errorf("clients have not ended within %v:\n%s", stopPatience, buf[:runtime.Stack(buf, true)])
		}
	case wordSweep:
		l.sweep(0)
	}
	return nil
}

func (l *load) report() loadReport {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	r := loadReport{Heap: float64(sample[0].Value.Uint64()), Goroutines: runtime.NumGoroutine()}
	r.Kinds, r.Failures, r.Troubles = l.read()
	return r
}

// pause waits, and is false if no more is to be begun.
func (l *load) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.stop:
		return false
	}
}

// within is a time between two.
func within(rng *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(rng.Int64N(int64(high-low)))
}

// content makes one that there was not before.
func (l *load) content(size int64) content { return content{l.ids.Add(1), size} }

// path is where what is stored by a name is.
func (l *load) path(name string) string { return filepath.Join(l.Stored, name) }

// failed counts what has ended with an error. Only where the network was bad that is
// nobody's fault.
func (l *load) failed(kind string, begin time.Time, what string, err error) {
	now := time.Now()
	worst := l.windows.worst(begin, now)
	switch {
	case errors.Is(err, errCorrupt):
		l.add(kind, Tally{Corrupt: 1})
	case worst >= breaks:
		l.told(kind, tailfin.OutcomeOf(err).Class.String())
		return
	default:
		l.add(kind, Tally{Lost: 1})
	}
	l.trouble("%s: %s: %v (begun %v before, effect of faults %d)", kind, what, err, now.Sub(begin).Round(time.Millisecond), worst)
}

// done counts what has ended well.
func (l *load) done(kind string, bytes int64) { l.add(kind, Tally{Done: 1, Bytes: bytes}) }

// doubts are uploads of which the client does not know whether they were stored. If they
// were, they must be whole.
type doubts struct {
	mu   sync.Mutex
	list []doubt
}

type doubt struct {
	kind, name string
	content    content
	since      time.Time
}

// doubtTime is how long a server may take to store what it has received.
const doubtTime = 2 * time.Minute

func (l *load) doubt(kind, name string, c content) {
	l.doubts.mu.Lock()
	defer l.doubts.mu.Unlock()
	l.doubts.list = append(l.doubts.list, doubt{kind, name, c, time.Now()})
}

// sweep looks for those that are older than some time, and forgets them.
func (l *load) sweep(older time.Duration) {
	l.doubts.mu.Lock()
	var old []doubt
	kept := l.doubts.list[:0]
	for _, d := range l.doubts.list {
		if time.Since(d.since) >= older {
			old = append(old, d)
		} else {
			kept = append(kept, d)
		}
	}
	l.doubts.list = kept
	l.doubts.mu.Unlock()
	for _, d := range old {
		if err := compareFile(l.path(d.name), d.content); errors.Is(err, errCorrupt) {
			l.failed(d.kind, d.since, "stored, after its client was gone: "+d.name, err)
		}
	}
}

// sweeper does so for as long as there are clients.
func (l *load) sweeper() {
	for l.pause(doubtTime / 4) {
		l.sweep(doubtTime)
	}
}
