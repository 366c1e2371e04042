package soak

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/tailfin-quic/tailfin/bench/netlab"
)

// A Kind is a fault, or what is no fault and yet must not disturb anybody.
type Kind string

// The kinds.
const (
	Stop     Kind = "stop"      // SIGSTOP for a while
	Garbage  Kind = "garbage"   // random datagrams
	Initials Kind = "initials"  // ClientHellos whose senders do not answer
	Reload   Kind = "reload"    // SIGHUP with a new certificate and configuration
	BadFile  Kind = "bad-file"  // SIGHUP with a configuration that is wrong
	Takeover Kind = "take-over" // a new process takes the address
	Loss     Kind = "loss"
	Reorder  Kind = "reorder" // with jitter and duplicates
	Cut      Kind = "cut"     // nothing gets through
	Narrow   Kind = "narrow"  // a low rate with a short queue
	Hole     Kind = "mtu"     // big packets vanish
	Rebind   Kind = "rebind"  // the NAT forgets
)

// An effect is what may befall a client in a fault without anybody being to blame.
type effect int

const (
	harmless effect = iota
	drops           // datagrams may be dropped or overtake each other: who does not wait may lose what it has sent
	breaks          // requests may fail, and their clients are told
)

// effects are those of the kinds that are not harmless.
var effects = map[Kind]effect{
	Stop: drops, Garbage: drops, Initials: drops, Takeover: drops, Reorder: drops,
	Loss: breaks, Cut: breaks, Narrow: breaks, Hole: breaks, Rebind: breaks,
}

// An Event is a fault of a schedule, and what became of it.
type Event struct {
	At   float64 `json:"at_s"` // since the load began
	Kind Kind    `json:"kind"`
	For  float64 `json:"for_s,omitempty"`
	// Much is how bad it is: datagrams of a burst; the share of packets that is lost, or
	// held back; the bytes of the largest packet; bits a second.
	Much  float64 `json:"much,omitempty"`
	Error string  `json:"error,omitempty"` // why it could not be made
}

func (e Event) String() string {
	var b strings.Builder
	at := int(e.At)
	fmt.Fprintf(&b, "%d:%02d %s", at/60, at%60, e.Kind)
	switch e.Kind {
	case Loss, Reorder:
		fmt.Fprintf(&b, " %.0f%%", 100*e.Much)
	case Garbage, Initials, Hole:
		fmt.Fprintf(&b, " %.0f", e.Much)
	case Narrow:
		fmt.Fprintf(&b, " %.0fMbit/s", e.Much/1e6)
	}
	if e.For > 0 {
		fmt.Fprintf(&b, " %.1fs", e.For)
	}
	return b.String()
}

// anywhere and onWire are the kinds that are drawn, in any network and on a wire only.
var (
	anywhere = []Kind{Stop, Garbage, Initials, Reload, BadFile}
	onWire   = []Kind{Loss, Reorder, Cut, Narrow, Hole}
)

// maxRest is how long before and after a take-over, and at the end, no other fault is made,
// so that what goes wrong has one cause; less if the run is short.
const maxRest = 15 * time.Second

// schedule draws one from the seed. Kinds come in turn, in an order that is drawn anew each
// time, so that none is forgotten in a short run.
func (c *Config) schedule(wire bool) []Event {
	rng := rand.New(rand.NewPCG(c.Seed, 0)) //nolint:gosec // a schedule that can be had again
	rest := min(maxRest, c.Time/12)
	var list []Event
	for i := range c.Takeovers {
		at := c.Time * time.Duration(i+1) / time.Duration(2*c.Takeovers)
		list = append(list, Event{At: at.Seconds(), Kind: Takeover})
	}
	if c.Gap == 0 {
		return list
	}
	kinds := slices.Clone(anywhere)
	if wire {
		kinds = append(kinds, onWire...)
	}
	if wire && c.hasNAT() {
		kinds = append(kinds, Rebind)
	}
	gap, takeovers := min(c.Gap, c.Time/6), slices.Clone(list)
	var deck []Kind
	for at := gap; ; {
		if len(deck) == 0 {
			deck = slices.Clone(kinds)
			rng.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		e := draw(rng, deck[0])
		e.For = min(e.For, gap.Seconds())
		e.At = apart(at, time.Duration(e.For*float64(time.Second)), rest, takeovers).Seconds()
		if e.At+e.For > (c.Time - rest).Seconds() {
			break
		}
		deck = deck[1:]
		list = append(list, e)
		at = time.Duration((e.At+e.For)*float64(time.Second)) + gap/2 + time.Duration(rng.Int64N(int64(gap)))
	}
	slices.SortStableFunc(list, func(a, b Event) int { return cmp.Compare(a.At, b.At) })
	return list
}

// natGap is the longest time between faults with which there is a NAT. Its mappings have an
// end when it forgets only, and must not run out for the load's sockets, some ten a second.
const natGap = 30 * time.Second

func (c *Config) hasNAT() bool { return c.Gap > 0 && c.Gap <= natGap }

// apart moves a fault behind a take-over that it would come near to.
func apart(at, long, rest time.Duration, takeovers []Event) time.Duration {
	for _, t := range takeovers {
		over := time.Duration(t.At * float64(time.Second))
		if at < over+rest && at+long > over-rest/2 {
			at = over + rest
		}
	}
	return at
}

// draw makes one of a kind.
func draw(rng *rand.Rand, k Kind) Event {
	between := func(low, high float64) float64 { return low + (high-low)*rng.Float64() }
	e := Event{Kind: k}
	switch k {
	case Stop:
		e.For = between(0.5, 1.5)
	case Garbage:
		e.Much = float64(int(between(2000, 20_000)))
	case Initials:
		e.Much = float64(int(between(100, 600)))
	case Loss:
		e.For, e.Much = between(3, 12), between(0.01, 0.2)
	case Reorder:
		e.For, e.Much = between(3, 12), between(0.02, 0.2)
	case Cut:
		e.For = between(0.3, 3)
	case Narrow:
		e.For, e.Much = between(3, 12), float64(int(between(3, 30)))*1e6
	case Hole:
		e.For, e.Much = between(1, 5), float64(int(between(1250, 1400)))
	case Rebind:
		e.Much = float64(rng.IntN(2))
	}
	return e
}

// calm is the path without faults.
var calm = netlab.Direction{Delay: 2 * time.Millisecond}

// shape is what the path is like in a fault of the network, both ways.
func (e Event) shape() netlab.Direction {
	d := calm
	switch e.Kind {
	case Loss:
		d.Loss = e.Much
	case Reorder:
		d.Reorder, d.HoldBack, d.Jitter, d.Duplicate = e.Much, 5*time.Millisecond, 3*time.Millisecond, 0.02
	case Cut:
		d.Loss = 1
	case Narrow:
		d.Rate = int64(e.Much)
	case Hole:
		d.BlackHole = int(e.Much)
	}
	return d
}

// rebinding is what a rebind changes.
func (e Event) rebinding() netlab.Rebinding {
	if e.Much > 0 {
		return netlab.RebindAddress
	}
	return netlab.RebindPort
}
