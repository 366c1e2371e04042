package netlab

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// A Profile is what a path is like. The zero value is a veth pair over which trains
// pass whole.
type Profile struct {
	Name string `json:"name"`
	MTU  int    `json:"mtu"` // of the devices of both hosts; 0 is DefaultMTU

	// Cut has each train cut into its datagrams before it leaves its host, and lets
	// the other host join them again (GRO), as a network card does. Where there is
	// an emulator trains are cut anyway, since what it does it does to datagrams.
	Cut bool `json:"cut"`

	Forward Direction `json:"forward"` // from the sender to the receiver
	Back    Direction `json:"back"`

	// NAT has the sender be behind a NAT, which Lab.Rebind has forget its mappings.
	// Only UDP gets through.
	NAT bool `json:"nat"`

	Seed uint64 `json:"seed"` // of a wire's chances: with the same, the nth packet has the same fate

	// Emulator is Netem or Wire. If it is empty, the one that can do what is asked
	// for is taken, netem first.
	Emulator string `json:"emulator"`

	// Process has a wire run in a process of its own; see Open. Otherwise its two
	// threads are of this process.
	Process bool `json:"process"`
}

// A Direction is what befalls the packets that go one way, in this order: the black
// hole, loss, rate and its queue, delay. Before all of it comes Lab.Interrupt.
type Direction struct {
	// BlackHole is the size of the largest IP packet that gets through: bigger ones
	// vanish, and no ICMP message says so. 0 is none.
	BlackHole int `json:"black_hole"`

	Loss float64 `json:"loss"` // the part of packets that is lost, each by a chance of its own

	// Rate is in bits of IP packets a second; 0 is as fast as it goes. Packets wait
	// for their turn in a queue of Queue bytes; what finds it full is dropped. 0 is
	// what passes in DefaultQueue, and at least 64 KiB.
	Rate  int64 `json:"rate"`
	Queue int   `json:"queue"`

	Delay time.Duration `json:"delay"`

	// Jitter is the most that is added to Delay by chance. Packets keep their order,
	// as they do in a queue.
	Jitter time.Duration `json:"jitter"`

	// Reorder is the part of packets that is held back by HoldBack besides, so that
	// others overtake them. 0 is DefaultHoldBack.
	Reorder  float64       `json:"reorder"`
	HoldBack time.Duration `json:"hold_back"`

	Duplicate float64 `json:"duplicate"` // the part of packets that arrives twice
}

// What zero values stand for.
const (
	DefaultMTU      = 1500
	DefaultQueue    = 20 * time.Millisecond
	DefaultHoldBack = 2 * time.Millisecond
)

const (
	minQueue = 64 << 10
	minMTU   = 1280 // IPv6 needs it, and so does QUIC (RFC 8200 §5)
	maxMTU   = 9216
	maxDelay = 10 * time.Second
	maxRate  = 100e9
	maxQueue = 1 << 30
)

// profiles are those of the paths.
var profiles = map[string]Profile{
	Veth:    {Name: Veth},
	VethCut: {Name: VethCut, Cut: true},
	WAN:     {Name: WAN, Cut: true, Forward: wan, Back: wan, Seed: 1},
}

// wan is one way over WAN. The queue is what the round trip holds at that rate.
var wan = Direction{Delay: 10 * time.Millisecond, Loss: 0.001, Rate: 1e9, Queue: 2_500_000}

// Check says what is wrong with a Profile.
func (p *Profile) Check() error {
	switch {
	case p.MTU != 0 && (p.MTU < minMTU || p.MTU > maxMTU):
		return fmt.Errorf("MTU %d; give %d to %d", p.MTU, minMTU, maxMTU)
	case !slices.Contains([]string{"", Netem, Wire}, p.Emulator):
		return fmt.Errorf("no emulator %q; there are %s and %s", p.Emulator, Netem, Wire)
	case p.Emulator == Netem && p.needsWire():
		return errors.New("netem loses, delays, duplicates and has a rate, but the profile asks for more; leave the emulator out")
	}
	return errors.Join(p.Forward.check("forward"), p.Back.check("back"))
}

func (d *Direction) check(name string) error {
	for what, part := range map[string]float64{"loss": d.Loss, "reorder": d.Reorder, "duplicate": d.Duplicate} {
		if !(part >= 0 && part <= 1) { // NaN is refused too
			return fmt.Errorf("%s: %s %v; give 0 to 1", name, what, part)
		}
	}
	for what, t := range map[string]time.Duration{"delay": d.Delay, "jitter": d.Jitter, "hold back": d.HoldBack} {
		if t < 0 || t > maxDelay {
			return fmt.Errorf("%s: %s %v; give 0 to %v", name, what, t, maxDelay)
		}
	}
	switch {
	case d.Rate < 0 || d.Rate > maxRate:
		return fmt.Errorf("%s: rate %d; give 0 to %d bits a second", name, d.Rate, int64(maxRate))
	case d.Queue < 0 || d.Queue > maxQueue:
		return fmt.Errorf("%s: queue %d; give 0 to %d bytes", name, d.Queue, maxQueue)
	case d.BlackHole < 0:
		return fmt.Errorf("%s: black hole %d; give the size of a packet", name, d.BlackHole)
	}
	return nil
}

// mtu is MTU or what it stands for.
func (p *Profile) mtu() int {
	if p.MTU == 0 {
		return DefaultMTU
	}
	return p.MTU
}

// impaired says whether an emulator is needed.
func (p *Profile) impaired() bool {
	return p.NAT || p.Emulator != "" || p.Forward != Direction{} || p.Back != Direction{}
}

// needsWire says whether netem would not do. It jitters and reorders in other ways.
func (p *Profile) needsWire() bool {
	return p.NAT || p.Forward.needsWire() || p.Back.needsWire()
}

func (d *Direction) needsWire() bool {
	return d.BlackHole != 0 || d.Jitter != 0 || d.Reorder != 0
}

// queue is Queue or what it stands for.
func (d *Direction) queue() int {
	if d.Queue != 0 || d.Rate == 0 {
		return d.Queue
	}
	return min(maxQueue, max(minQueue, int(float64(d.Rate)/8*DefaultQueue.Seconds())))
}
