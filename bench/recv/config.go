package recv

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tailfin-quic/tailfin/bench/netlab"
	"github.com/tailfin-quic/tailfin/bench/rounds"
)

// Readers lists all readers, in the order in which they are reported.
var Readers = []string{
	"stock", "msg", "mmsg", "msg-gro", "mmsg-gro", "uring", "uring-gro", "auto", "paced", "unpaced",
	"c", "c-wait", "c-mmsg", foreignReader,
}

// foreignReader is iperf3, which sends for itself and measures itself.
const foreignReader = "iperf3"

// isFloor tells whether a reader is one of the C programs.
func isFloor(reader string) bool { return reader == "c" || reader == "c-wait" || reader == "c-mmsg" }

// A Config says what to measure. Each combination of segments, payload, flows,
// rate and pinning is a cell.
type Config struct {
	Readers  []string
	Path     string // of netlab
	Segments []int  // datagrams that the sender hands over at once (GSO), 1 to 64; 1 is without GSO
	Payload  []int  // bytes of a datagram, 24 to 1452
	Flows    []int  // source ports
	Rates    []int  // datagrams a second, 0 for as many as the sender can
	Pin      []bool
	Warmup   time.Duration // of each run, not measured
	Duration time.Duration // of each run, measured; longer where a rate makes few datagrams
	Buffer   int           // receive buffer asked for, in bytes
	rounds.Plan
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
	maxRate     = 100_000_000
	minBuffer   = 4 << 10
	maxBuffer   = 1 << 30
	minDuration = 10 * time.Millisecond
	maxDuration = time.Minute
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
		errs = append(errs, once(what, values))
	}
	within("segments", c.Segments, 1, maxSegments)
	within("payload", c.Payload, minPayload, maxPayload)
	within("flows", c.Flows, 1, maxFlows)
	within("rate", c.Rates, 0, maxRate)
	within("buffer", []int{c.Buffer}, minBuffer, maxBuffer)
	for _, r := range c.Readers {
		if !slices.Contains(Readers, r) {
			errs = append(errs, fmt.Errorf("no reader %q; there are %v", r, Readers))
		}
	}
	if len(c.Readers) == 0 {
		errs = append(errs, errors.New("no readers"))
	}
	errs = append(errs, once("reader", c.Readers))
	if c.Duration < minDuration || c.Duration > maxDuration {
		errs = append(errs, fmt.Errorf("duration %v; give %v to %v", c.Duration, minDuration, maxDuration))
	}
	if c.Warmup < 0 || c.Warmup > maxDuration {
		errs = append(errs, fmt.Errorf("warm-up %v; give up to %v", c.Warmup, maxDuration))
	}
	if len(c.Pin) == 0 {
		errs = append(errs, errors.New("neither pinned nor unpinned"))
	}
	errs = append(errs, once("pinning", c.Pin), netlab.Check(c.Path), c.Plan.Check())
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if len(c.Cells()) == 0 {
		return fmt.Errorf("no cell is left: segments × payload must be up to %d bytes, which is what a UDP datagram carries", maxTrain)
	}
	return nil
}

// once says whether a value of a list is there again.
func once[V comparable](what string, values []V) error {
	seen := make(map[V]bool)
	for _, v := range values {
		if seen[v] {
			return fmt.Errorf("%s %v is given more than once", what, v)
		}
		seen[v] = true
	}
	return nil
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

// leastDatagrams are measured in each run, however low the rate is: thirty of them are
// beyond the 99th percentile.
const leastDatagrams = 3000

// interval is for how long a run of a cell is measured.
func (c *Config) interval(cell Cell) time.Duration {
	if cell.Rate == 0 {
		return c.Duration
	}
	return max(c.Duration, leastDatagrams*time.Second/time.Duration(cell.Rate))
}

// contestants are the readers that take turns.
func (c *Config) contestants() []string {
	return slices.DeleteFunc(slices.Clone(c.Readers), func(r string) bool { return r == foreignReader })
}

// hasForeign tells whether iperf3 has a run in a cell: it sends no trains.
func (c *Config) hasForeign(cell Cell) bool {
	return cell.Segments == 1 && slices.Contains(c.Readers, foreignReader)
}

// Turns is how many runs there are in all, which is the total that Progress is told.
func (c *Config) Turns() (n int) {
	for _, cell := range c.Cells() {
		n += len(c.contestants()) * c.Rounds
		if c.hasForeign(cell) {
			n++
		}
	}
	return n
}

// What a run takes beside its warm-up and its measured interval: the start of two
// processes, and the silence by which a receiver knows that it is over.
const (
	aroundRun     = 200 * time.Millisecond
	aroundForeign = 300 * time.Millisecond
)

// Estimate is about how long Run takes.
func (c *Config) Estimate() (t time.Duration) {
	for _, cell := range c.Cells() {
		t += time.Duration(len(c.contestants())*c.Rounds) * (c.Warmup + c.interval(cell) + aroundRun)
		if c.hasForeign(cell) {
			t += foreignTime(c.interval(cell)) + aroundForeign
		}
	}
	return t
}
