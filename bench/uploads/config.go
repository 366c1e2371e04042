package uploads

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/tailfin-quic/tailfin/bench/netlab"
	"github.com/tailfin-quic/tailfin/bench/rounds"
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
	Path      string // of package netlab
	Storage   string // a name for NewHandler; Requests has none
	Dir       string // in which each receiver has a folder; empty is that for temporary files
	Files     bool   // whether each upload makes a file of the folder, to be counted
	Method    string // GET, POST or PUT, which is the default
	Conns     int
	InFlight  int           // requests at a time on each connection
	Size      int           // of a body, in bytes; none for GET
	Answer    int           // bytes of each answer of Requests
	Time      time.Duration // for how long the requests of a turn are begun
	GOGC      int           // of the receivers, in percent, as the variable of that name; 0 is 100
	Pin       bool
	Profile   string // a folder for CPU profiles of the receivers; empty is none
	rounds.Plan
}

// The bounds of a Config.
const (
	maxConns    = 10_000
	maxInFlight = 100 // the streams that quic-go lets a peer have open by default
	maxSize     = 1 << 20
	maxTime     = 10 * time.Minute
	maxGOGC     = 10_000
)

// methods are what Config.Method may be.
var methods = []string{http.MethodGet, http.MethodPost, http.MethodPut}

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
	within("bytes of an answer", c.Answer, 0, maxSize)
	within("percent for GOGC", c.GOGC, 0, maxGOGC)
	if c.Time <= 0 || c.Time > maxTime {
		errs = append(errs, fmt.Errorf("a run of %v; give up to %v", c.Time, maxTime))
	}
	if !slices.Contains(methods, c.method()) {
		errs = append(errs, fmt.Errorf("no method %q; there are %v", c.Method, methods))
	}
	if c.Method == http.MethodGet && c.Size > 0 {
		errs = append(errs, fmt.Errorf("a GET with a body of %d bytes; give 0", c.Size))
	}
	return errors.Join(append(errs, netlab.Check(c.Path), c.Plan.Check())...)
}

func (c *Config) method() string {
	if c.Method == "" {
		return http.MethodPut
	}
	return c.Method
}

// defaultGOGC is the runtime's.
const defaultGOGC = 100

func (c *Config) gogc() int {
	if c.GOGC == 0 {
		return defaultGOGC
	}
	return c.GOGC
}

// what names what is measured, for progress and profiles.
func (c *Config) what() string {
	if c.Storage != "" {
		return c.Storage
	}
	return fmt.Sprintf("%s-%d", c.method(), c.Conns)
}
