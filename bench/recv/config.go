package recv

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Readers lists all readers, in the order in which they are reported.
var Readers = []string{"stock", "msg", "mmsg", "msg-gro", "mmsg-gro", "uring", "uring-gro", "auto", "paced", "unpaced", "c", "c-wait"}

// A Config says what to measure. Each combination of segments, payload, flows,
// rate and pinning is a cell.
type Config struct {
	Readers  []string
	Segments []int // datagrams that the sender hands over at once (GSO), 1 to 64
	Payload  []int // bytes of a datagram, 24 to 1452
	Flows    []int // source ports
	Rates    []int // datagrams a second, 0 for as many as the sender can
	Pin      []bool
	Pairs    int           // rounds
	Warmup   time.Duration // of each run, not measured
	Duration time.Duration // of each run, measured
	Buffer   int           // receive buffer asked for, in bytes
	Seed     uint64

	// Progress, if set, is told before each run.
	Progress func(done, total int, what string)
}

// A Cell is one combination.
type Cell struct {
	Segments, Payload, Flows, Rate int
	Pin                            bool
}

func (c Cell) String() string {
	rate := "max"
	if c.Rate > 0 {
		rate = fmt.Sprint(c.Rate)
	}
	pin := "unpinned"
	if c.Pin {
		pin = "pinned"
	}
	return fmt.Sprintf("segments=%d payload=%d flows=%d rate=%s %s", c.Segments, c.Payload, c.Flows, rate, pin)
}

// Limits of a Config.
const (
	minPayload  = 24 // flow, number and time
	maxPayload  = 1452
	maxSegments = 64
	maxTrain    = 65507 // UDP payload that IPv4 carries
	maxFlows    = 1024
)

// Check says what is wrong with a Config.
func (c *Config) Check() error {
	var errs []error
	within := func(what string, values []int, low, high int) {
		if len(values) == 0 {
			errs = append(errs, fmt.Errorf("no %s; give at least one", what))
		}
		for _, v := range values {
			if v < low || v > high {
				errs = append(errs, fmt.Errorf("%s %d; give %d to %d", what, v, low, high))
			}
		}
	}
	within("segments", c.Segments, 1, maxSegments)
	within("payload", c.Payload, minPayload, maxPayload)
	within("flows", c.Flows, 1, maxFlows)
	within("rate", c.Rates, 0, 100_000_000)
	within("pairs", []int{c.Pairs}, 1, 1000)
	for _, r := range c.Readers {
		if !slices.Contains(Readers, r) {
			errs = append(errs, fmt.Errorf("no reader %q; there are %v", r, Readers))
		}
	}
	if len(c.Readers) == 0 {
		errs = append(errs, errors.New("no readers"))
	}
	if c.Duration < 10*time.Millisecond || c.Duration > time.Minute {
		errs = append(errs, fmt.Errorf("duration %v; give 10ms to 1m", c.Duration))
	}
	if len(c.Pin) == 0 {
		errs = append(errs, errors.New("neither pinned nor unpinned"))
	}
	return errors.Join(errs...)
}

// Cells lists the combinations that a UDP datagram can carry.
func (c *Config) Cells() []Cell {
	var cells []Cell
	for _, pin := range c.Pin {
		for _, segments := range c.Segments {
			for _, payload := range c.Payload {
				for _, flows := range c.Flows {
					for _, rate := range c.Rates {
						// A train has to fit, and one a tick is the least there is.
						if segments*payload > maxTrain {
							continue
						}
						cells = append(cells, Cell{segments, payload, flows, rate, pin})
					}
				}
			}
		}
	}
	return cells
}

// shuffled returns the readers in an order of its own.
func (c *Config) shuffled(r *rand.Rand) []string {
	list := slices.Clone(c.Readers)
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}
