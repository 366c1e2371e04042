package soak

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The paths that a soak knows.
const (
	PathAuto     = "auto"     // PathWire where it may be had, else PathLoopback
	PathWire     = "wire"     // a wire of package netlab, with a NAT, whose faults are the network's
	PathLoopback = "loopback" // without faults of the network
)

var paths = []string{PathAuto, PathWire, PathLoopback}

// A Config says how to soak.
type Config struct {
	Time      time.Duration // of the load
	Every     time.Duration // between samples
	Gap       time.Duration // between faults, on average; 0 is none at all
	Takeovers int           // by new processes, in the first half
	Clients   float64       // how many clients of each kind there are, to the usual number
	Path      string
	Backend   string // as serve has it
	Dir       string // in which a folder for what is stored is made; empty is that for temporary files
	Seed      uint64 // of the faults and of the load

	// Plan, if set, is told before it begins what is going to happen.
	Plan func(path string, why error, schedule []Event)
	// Progress, if set, is told of each sample.
	Progress func(done, total int, what string)
}

// The bounds of a Config.
const (
	minTime      = time.Second
	maxTime      = 7 * 24 * time.Hour
	minEvery     = 100 * time.Millisecond
	maxEvery     = 10 * time.Second // what the kernel has dropped must be known before an upload counts as lost
	maxTakeovers = 100
	maxClients   = 100
)

// Check says what is wrong with a Config.
func (c *Config) Check() error {
	var errs []error
	if c.Time < minTime || c.Time > maxTime {
		errs = append(errs, fmt.Errorf("a soak of %v; give %v to %v", c.Time, minTime, maxTime))
	}
	if c.Every < minEvery || c.Every > maxEvery {
		errs = append(errs, fmt.Errorf("samples every %v; give %v to %v", c.Every, minEvery, maxEvery))
	}
	if c.Gap < 0 {
		errs = append(errs, fmt.Errorf("faults every %v; give a time, or 0 for none", c.Gap))
	}
	if c.Takeovers < 0 || c.Takeovers > maxTakeovers {
		errs = append(errs, fmt.Errorf("%d take-overs; give 0 to %d", c.Takeovers, maxTakeovers))
	}
	if !(c.Clients > 0 && c.Clients <= maxClients) {
		errs = append(errs, fmt.Errorf("%g times the usual clients; give more than 0, and up to %d", c.Clients, maxClients))
	}
	if !slices.Contains(paths, c.Path) {
		errs = append(errs, fmt.Errorf("no path %q; there are %s", c.Path, strings.Join(paths, ", ")))
	}
	return errors.Join(errs...)
}
