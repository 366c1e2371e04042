package transfer

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tailfin-quic/tailfin/bench/netlab"
	"github.com/tailfin-quic/tailfin/bench/rounds"
	"github.com/tailfin-quic/tailfin/bench/servers"
)

// What is measured.
const (
	Bulk    = "bulk"    // bodies, as fast as they go
	Latency = "latency" // small requests beside a body
)

// Which side sends the bodies.
const (
	Upload   = "upload"
	Download = "download"
)

// The senders, and foreign receivers beside those of package servers.
const (
	QUICGo  = "quic-go"
	Tailfin = "tailfin" // our Transport, which writes bodies in longer pieces: longer trains, for less of the sender's time
	NGTCP2  = "ngtcp2"
	IPerf3  = "iperf3" // TCP: a sender and a receiver for each other only
)

// What holds a transfer up.
const (
	BottleneckNone     = "none"     // nothing but its two sides
	BottleneckReceiver = "receiver" // it has a part of a processor
)

// Where the small requests are made.
const (
	SameConnection  = "same"
	OtherConnection = "other"
)

// A Config says what to measure. In each round of it every receiver takes a turn with
// every number of flows and of shards.
type Config struct {
	Kind        string   // Bulk or Latency
	Direction   string   // Upload or Download; empty is Upload
	Sender      string   // QUICGo, Tailfin, NGTCP2 or IPerf3; empty is QUICGo
	Receivers   []string // of package servers; NGTCP2 and IPerf3
	Flows       []int    // connections with a body each
	Shards      []int    // sockets of the receiver
	Bottleneck  string   // empty is BottleneckNone
	ReceiverCPU int      // percent of its processor that a receiver has that is the bottleneck: 50, 33, 25, …; 0 is 50
	Bytes       int64    // of all bodies of a turn, for Bulk
	Path        string   // of package netlab; empty is loopback
	Pin         bool
	Profile     string          // a folder for CPU profiles of the receivers of uploads, the last of each; empty is none
	Cert        tls.Certificate // of NGTCP2's server, which clients trust whatever it says

	// For Latency.
	Connection string        // SameConnection or OtherConnection
	BulkGbit   float64       // that the bodies are offered with; 0 is as fast as they go
	Rate       int           // small requests a second
	Time       time.Duration // of a turn

	rounds.Plan
}

// The bounds of a Config.
const (
	maxFlows  = 1000
	maxShards = 64
	maxRate   = 10_000
	maxTime   = 10 * time.Minute

	wholeProcessor     = 100 // percent
	leastReceiverCPU   = 10
	defaultReceiverCPU = 50
)

// Check says what is wrong with a Config, whose empty fields it fills.
func (c *Config) Check() error {
	c.fill()
	var errs []error
	oneOf := func(what, value string, list ...string) {
		if !slices.Contains(list, value) {
			errs = append(errs, fmt.Errorf("no %s %q; there are %v", what, value, list))
		}
	}
	within := func(what string, list []int, low, high int) {
		if len(list) == 0 {
			errs = append(errs, fmt.Errorf("no %s; give at least one", what))
		}
		for _, n := range list {
			if n < low || n > high {
				errs = append(errs, fmt.Errorf("%d %s; give %d to %d", n, what, low, high))
			}
		}
	}
	oneOf("kind", c.Kind, Bulk, Latency)
	oneOf("direction", c.Direction, Upload, Download)
	oneOf("sender", c.Sender, QUICGo, Tailfin, NGTCP2, IPerf3)
	within("percent of a processor", []int{c.ReceiverCPU}, leastReceiverCPU, defaultReceiverCPU)
	oneOf("bottleneck", c.Bottleneck, BottleneckNone, BottleneckReceiver)
	within("flows", c.Flows, 1, maxFlows)
	within("shards", c.Shards, 1, maxShards)
	if c.Kind == Latency {
		oneOf("connection", c.Connection, SameConnection, OtherConnection)
		within("small requests a second", []int{c.Rate}, 1, maxRate)
		if c.Time <= 0 || c.Time > maxTime {
			errs = append(errs, fmt.Errorf("a turn of %v; give up to %v", c.Time, maxTime))
		}
		if c.BulkGbit < 0 {
			errs = append(errs, fmt.Errorf("%g Gbit/s; give 0 for as fast as it goes", c.BulkGbit))
		}
	} else if c.Bytes < 1<<20 || c.Bytes > 1<<40 {
		errs = append(errs, fmt.Errorf("%d bytes; give 1 MiB to 1 TiB", c.Bytes))
	}
	if c.Bottleneck == BottleneckReceiver && (!c.Pin || c.Direction != Upload || c.Sender == IPerf3) {
		errs = append(errs, errors.New("a receiver that is to be the bottleneck has to be pinned, and gets uploads over QUIC"))
	}
	if c.Direction == Download && (c.Kind != Bulk || len(c.Shards) != 1 || c.Shards[0] != 1) {
		errs = append(errs, errors.New("a download is in bulk, to one socket for each connection"))
	}
	errs = append(errs, c.checkReceivers(), c.Plan.Check(), netlab.Check(c.Path))
	return errors.Join(errs...)
}

// checkReceivers looks at what goes with what.
func (c *Config) checkReceivers() error {
	if c.Sender == IPerf3 {
		if !slices.Equal(c.Receivers, []string{IPerf3}) || c.Kind != Bulk || c.Direction != Upload {
			return errors.New("iperf3 sends in bulk to iperf3 only")
		}
		return nil
	}
	foreign := c.Sender == NGTCP2 && c.Kind == Bulk && slices.Equal(c.Flows, []int{1})
	if c.Sender == NGTCP2 && !foreign {
		return errors.New("ngtcp2 sends one flow in bulk")
	}
	ours := slices.DeleteFunc(slices.Clone(c.Receivers), func(name string) bool { return name == NGTCP2 })
	if len(ours) == len(c.Receivers) {
		return servers.CheckNames(ours)
	}
	if c.Direction != Upload || c.Kind != Bulk || c.Sender == NGTCP2 || len(c.Shards) != 1 || c.Shards[0] != 1 {
		return errors.New("ngtcp2 receives uploads of quic-go in bulk, on one socket")
	}
	if len(ours) == 0 {
		return nil
	}
	return servers.CheckNames(ours)
}

// fill has an empty field say what it stands for.
func (c *Config) fill() {
	for _, f := range []struct {
		field     *string
		byDefault string
	}{
		{&c.Kind, Bulk},
		{&c.Direction, Upload},
		{&c.Sender, QUICGo},
		{&c.Bottleneck, BottleneckNone},
		{&c.Path, netlab.Loopback},
	} {
		if *f.field == "" {
			*f.field = f.byDefault
		}
	}
	if c.ReceiverCPU == 0 {
		c.ReceiverCPU = defaultReceiverCPU
	}
	if c.Shards == nil {
		c.Shards = []int{1}
	}
}

// neighbours is how many processes that never rest share the receiver's processor with
// it, each with the same weight, for it to have ReceiverCPU.
func (c *Config) neighbours() int {
	if c.Bottleneck != BottleneckReceiver {
		return 0
	}
	return wholeProcessor/c.ReceiverCPU - 1
}

// receiverCPU is what a receiver has beside so many of them, in percent.
func (c *Config) receiverCPU() int { return wholeProcessor / (c.neighbours() + 1) }

// A contestant is one of those that take turns.
type contestant struct {
	receiver      string
	flows, shards int
}

// contestants lists them, in the order in which they are reported, by the name that
// they have in the rounds.
func (c *Config) contestants() (names []string, all map[string]contestant) {
	all = make(map[string]contestant)
	for _, shards := range c.Shards {
		for _, flows := range c.Flows {
			for _, receiver := range c.Receivers {
				one := contestant{receiver, flows, shards}
				names = append(names, one.name())
				all[one.name()] = one
			}
		}
	}
	return names, all
}

func (c contestant) name() string {
	return fmt.Sprintf("%s, %d connections, %d sockets", c.receiver, c.flows, c.shards)
}

// each is the size of one body.
func (c *Config) each(flows int) int64 { return c.Bytes / int64(flows) }
