package uploads

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// The receivers.
const (
	Stock    = "stock"
	DrainOff = "off"
	DrainOn  = "on"
)

// Receivers lists all of them, in the order in which they are reported.
var Receivers = []string{Stock, DrainOff, DrainOn}

// A NewHandler makes the handler of a receiver that stores what is put, by the name of
// a storage and in a folder of its own. It answers http.StatusCreated. It runs in the process of
// a receiver, and what it opens lives as long as that.
type NewHandler func(receiver, storage, dir string) (http.Handler, error)

// A Config says what to measure.
type Config struct {
	Receivers []string
	Storage   string // a name for NewHandler
	Dir       string // in which each receiver has a folder; empty is that for temporary files
	Files     bool   // whether each upload makes a file of the folder, to be counted
	Conns     int
	InFlight  int           // requests at a time on each connection
	Size      int           // of a body, in bytes
	Time      time.Duration // for how long the uploads of a turn are begun
	Pairs     int           // rounds, in which each receiver has a turn
	GOGC      int           // of the receivers, in percent, as the variable of that name; 0 is 100
	Pin       bool
	Seed      uint64
	Profile   string // a folder for CPU profiles of the receivers; empty is none

	// Progress, if set, is told before each run.
	Progress func(done, total int, what string)
}

// The bounds of a Config.
const (
	maxConns    = 10_000
	maxInFlight = 100 // the streams that quic-go lets a peer have open by default
	maxSize     = 1 << 20
	maxTime     = 10 * time.Minute
	maxPairs    = 1000
	maxGOGC     = 10_000
)

// Check says what is wrong with a Config.
func (c *Config) Check() error {
	var errs []error
	for _, r := range c.Receivers {
		if !slices.Contains(Receivers, r) {
			errs = append(errs, fmt.Errorf("no receiver %q; there are %v", r, Receivers))
		}
	}
	if len(c.Receivers) == 0 {
		errs = append(errs, errors.New("no receivers"))
	}
	within := func(what string, n, low, high int) {
		if n < low || n > high {
			errs = append(errs, fmt.Errorf("%d %s; give %d to %d", n, what, low, high))
		}
	}
	within("connections", c.Conns, 1, maxConns)
	within("requests in flight", c.InFlight, 1, maxInFlight)
	within("bytes", c.Size, 0, maxSize)
	within("pairs", c.Pairs, 1, maxPairs)
	within("percent for GOGC", c.GOGC, 0, maxGOGC)
	if c.Time <= 0 || c.Time > maxTime {
		errs = append(errs, fmt.Errorf("a run of %v; give up to %v", c.Time, maxTime))
	}
	return errors.Join(errs...)
}
