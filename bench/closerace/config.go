package closerace

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tailfin-quic/tailfin/bench/netlab"
	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/bench/rounds"
)

// The receivers.
const (
	DrainOn  = "on"    // ours
	DrainOff = "off"   // ours without the drain
	Stock    = "stock" // quic-go/http3
	XNet     = "xnet"  // golang.org/x/net/quic with a minimal HTTP/3 above
)

// Receivers lists all of them, in the order in which they are reported.
var Receivers = []string{Stock, XNet, DrainOff, DrainOn}

// The directions, as a client sees them: a client sends and closes, or a server answers
// and closes.
const (
	Upload   = "upload"
	Download = "download"
)

// Directions lists both.
var Directions = []string{Upload, Download}

// The senders.
const (
	SenderBurst   = "burst"   // peer.Burst and peer.BurstServer
	SenderXNet    = "xnet"    // golang.org/x/net/quic
	SenderQUICGo  = "quic-go" // peer.ClosingServer; downloads only
	SenderTailfin = "tailfin" // Transport.SendAndClose; uploads without delay only
)

// Senders lists all of them.
var Senders = []string{SenderBurst, SenderXNet, SenderQUICGo, SenderTailfin}

// A Cell is what all receivers are put to alike.
type Cell struct {
	Direction   string
	Sender      string
	Size        int           // bytes of a body
	Delay       time.Duration // between FIN and close; with a burst 0 is the very packet or batch
	ReaderDelay time.Duration // between the header section and the first read of the body
	Procs       int           // GOMAXPROCS of the receiver
}

// A Config says what to measure.
type Config struct {
	Path         string // of netlab
	Receivers    []string
	Directions   []string
	Senders      []string
	Sizes        []int
	Delays       []time.Duration
	ReaderDelays []time.Duration
	Procs        []int // GOMAXPROCS of the receiver's process
	Iterations   int   // messages a cell and receiver, over all rounds
	Connections  int   // at a time, where no reader is slow
	rounds.Plan
}

// Bounds of a Config.
const (
	maxSize       = 256 << 10 // what fits into sockets' buffers, since a burst heeds no window
	maxIterations = 1_000_000
	maxConns      = 64
	maxDelay      = 10 * time.Second
	maxProcs      = 1024
)

// Check says what is wrong with a Config.
func (c *Config) Check() error {
	errs := []error{c.Plan.Check(), netlab.Check(c.Path)}
	for _, list := range []struct {
		what       string
		have, from []string
	}{{"receiver", c.Receivers, Receivers}, {"direction", c.Directions, Directions}, {"sender", c.Senders, Senders}} {
		if len(list.have) == 0 {
			errs = append(errs, fmt.Errorf("no %s", list.what))
		}
		for _, name := range list.have {
			if !slices.Contains(list.from, name) {
				errs = append(errs, fmt.Errorf("no %s %q; there are %v", list.what, name, list.from))
			}
		}
	}
	for _, n := range c.Sizes {
		if n < peer.MinNumbered || n > maxSize {
			errs = append(errs, fmt.Errorf("bodies of %d bytes; give %d to %d", n, peer.MinNumbered, maxSize))
		}
	}
	for _, d := range slices.Concat(c.Delays, c.ReaderDelays) {
		if d < 0 || d > maxDelay {
			errs = append(errs, fmt.Errorf("a delay of %v; give 0 to %v", d, maxDelay))
		}
	}
	for _, n := range c.Procs {
		if n < 1 || n > maxProcs {
			errs = append(errs, fmt.Errorf("GOMAXPROCS of %d; give 1 to %d", n, maxProcs))
		}
	}
	if c.Iterations < c.Rounds || c.Iterations > maxIterations {
		errs = append(errs, fmt.Errorf("%d messages in %d rounds; give one a round at least, and %d at most", c.Iterations, c.Rounds, maxIterations))
	}
	if c.Connections < 1 || c.Connections > maxConns {
		errs = append(errs, fmt.Errorf("%d connections at a time; give 1 to %d", c.Connections, maxConns))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if len(c.Cells()) == 0 {
		return errors.New("no cell: sizes, delays or processors are missing, or no sender sends this way")
	}
	return nil
}

// Cells lists the matrix, without what a sender cannot do.
func (c *Config) Cells() []Cell {
	var cells []Cell
	for _, sender := range c.Senders {
		for _, direction := range c.Directions {
			for _, procs := range c.Procs {
				for _, readerDelay := range c.ReaderDelays {
					for _, size := range c.Sizes {
						for _, delay := range c.Delays {
							cell := Cell{direction, sender, size, delay, readerDelay, procs}
							if cell.possible() {
								cells = append(cells, cell)
							}
						}
					}
				}
			}
		}
	}
	return cells
}

// possible tells whether the cell's sender can do what it asks for.
func (c Cell) possible() bool {
	switch c.Sender {
	case SenderQUICGo:
		return c.Direction == Download
	case SenderTailfin:
		return c.Direction == Upload && c.Delay == 0
	}
	return true
}

// turn is a round of the cell for one receiver.
func (c *Config) turn(cell Cell, receiver string, round int) turn {
	t := turn{
		Receiver: receiver, Direction: cell.Direction, Sender: cell.Sender, Size: cell.Size,
		Delay: cell.Delay, ReaderDelay: cell.ReaderDelay, Procs: cell.Procs, Workers: c.workers(cell),
	}
	// What does not divide goes to the first rounds.
	each, rest := c.Iterations/c.Rounds, c.Iterations%c.Rounds
	t.Count = each
	if round < rest {
		t.Count++
	}
	t.First = uint64(round*each + min(round, rest))
	return t
}

// workers is how many messages are under way at a time. A client that is slow to read
// waits with its worker; a server's handlers keep no sender.
func (c *Config) workers(cell Cell) int {
	if cell.Direction == Download && cell.ReaderDelay >= slowReader {
		return max(c.Connections, slowConns)
	}
	return c.Connections
}

const (
	slowReader = 10 * time.Millisecond
	slowConns  = 32
)
