package admin

import (
	"os"
	"runtime"
	"time"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/udp"
)

// Status is /status.json.
type Status struct {
	Time          time.Time           `json:"time"`
	Host          string              `json:"host"`
	Version       string              `json:"version"`
	Go            string              `json:"go"`
	UptimeSeconds float64             `json:"uptime_seconds"`
	Ready         bool                `json:"ready"`
	Reasons       []string            `json:"reasons"` // why it is not ready
	Listening     string              `json:"listening"`
	Server        tailfin.ServerStats `json:"server"`
	Drain         tailfin.DrainStats  `json:"drain"`
	StrayPackets  uint64              `json:"stray_packets"`
	Shards        []udp.Stats         `json:"shards"`
	Certificates  []Certificate       `json:"certificates"`
	Recent        []LogRecord         `json:"recent"`
	// Interval is the seconds between values of the charts, of which the last are of Time.
	Interval float64          `json:"interval_seconds"`
	Charts   map[string]Chart `json:"charts"`
	// Sections are parts of the page as HTML, by the IDs of their elements: only
	// with ?html.
	Sections map[string]string `json:"sections,omitempty"`
}

// A view is what the template shows: a Status, in words.
type view struct {
	Status
	Uptime    string
	Title     string
	Backend   string
	Reason    string
	GRO       string
	Steering  string
	Charts    []Chart
	Shards    []shardRow
	Trains    []barRow
	Answers   []barRow
	NoAnswers bool // nothing counts them
	Work      []fact
	Limits    []tally
	Drops     []tally
	Saved     quantity
	SavedLast quantity // in five minutes
	Drained   []tally
	Sink      sinkState
	Stores    []tally
	Certs     []certRow
	Process   []fact
	Warnings  string
	Errors    string
	Others    []tally // counters of other parts
}

// A fact is a name and what is to be said.
type fact struct{ Name, Value string }

// A tally is a count since the start and in the last five minutes.
type tally struct {
	Name, Note  string
	Total, Last string
	Bad         bool // it should be zero, and was not in the last five minutes
}

// A barRow is a tally with its share.
type barRow struct {
	Name, Note  string
	Share       float64 // 0 to 100, of the bar
	Percent     string
	Rate        string
	Last, Total string
	Bad         bool
	Refused     bool // 4xx
}

type shardRow struct {
	Index                                  int
	Datagrams, Bits, Each, Syscalls, Drops string
	Backend                                string
	Bad                                    bool
}

type sinkState struct {
	URL, State, Detail, Checked string
	Bad                         bool
}

type certRow struct {
	Names, Issuer, Source, Expires, Left string
	Warn                                 string // what is wrong with it; empty if nothing
}

const (
	certSoon = 14 * 24 * time.Hour // a renewal should have come by then
	devCert  = "development"
	certDue  = 3 * 24 * time.Hour // of those that live for days
)

// status is what there is to say now, from samples of which there is at least one.
func (a *Admin) status(h []sample) view {
	now := &h[len(h)-1]
	reasons := a.knownReasons()
	host, _ := os.Hostname()
	p := view{
		Status: Status{
			Time: now.at.UTC(), Host: host, Version: a.opts.Version, Go: runtime.Version(),
			UptimeSeconds: now.at.Sub(a.started).Seconds(),
			Ready:         len(reasons) == 0, Reasons: reasons,
			Server: now.server, Drain: now.drain, StrayPackets: now.notQUIC,
			Shards: now.shards, Certificates: a.certificates(),
			Interval: a.sampler.every.Seconds(), Charts: make(map[string]Chart),
		},
		Uptime: span(now.at.Sub(a.started)),
		Charts: a.charts(h),
	}
	for _, c := range p.Charts {
		p.Status.Charts[c.ID] = c
	}
	if a.opts.Recent != nil {
		p.Recent = a.opts.Recent.Records()
		warnings, errors := a.opts.Recent.Counts()
		p.Warnings, p.Errors = whole(warnings), whole(errors)
	}
	p.Title = "Ready"
	if !p.Ready {
		p.Title = "Not ready"
	}
	a.receiving(&p, h)
	a.working(&p, h)
	a.keeping(&p, h)
	return p
}

// receiving fills what is said of the sockets.
func (a *Admin) receiving(p *view, h []sample) {
	old, recent, now := &h[0], &h[max(0, len(h)-1-a.sampler.rateSamples())], &h[len(h)-1]
	p.Backend, p.Reason, p.GRO = none, "not listening yet", none
	if a.opts.Conns != nil {
		conns := a.opts.Conns()
		gro := 0
		for i, c := range conns {
			if i == 0 {
				p.Listening, p.Backend, p.Reason = c.LocalAddr().String(), c.Backend().String(), clip(c.Reason(), maxText)
			} else if b := c.Backend().String(); b != p.Backend {
				p.Backend = mixed
			}
			if c.GRO() {
				gro++
			}
		}
		switch {
		case len(conns) == 0:
		case gro == len(conns):
			p.GRO = "on"
		default:
			p.GRO = "off"
		}
		p.Steering = steering(a.opts.Steering, len(conns))
	}
	dt := now.at.Sub(recent.at).Seconds()
	for i, s := range now.shards {
		row := shardRow{Index: i, Datagrams: none, Bits: none, Each: none, Syscalls: none, Drops: whole(s.KernelDrops + s.InboxDrops + s.Truncated)}
		if i < len(recent.shards) && dt > 0 {
			before := recent.shards[i]
			n := grown(s.Datagrams, before.Datagrams)
			row.Datagrams = plainRate(n / dt).Number
			row.Bits = bits(8 * grown(s.Bytes, before.Bytes) / dt).String()
			if receives := grown(s.Receives, before.Receives); receives > 0 {
				row.Each = digits(n / receives)
			}
			if n > 0 {
				row.Syscalls = digits(grown(s.Enters, before.Enters) / n)
			}
		}
		if i < len(recent.shards) {
			before := recent.shards[i]
			row.Bad = s.KernelDrops+s.InboxDrops+s.Truncated > before.KernelDrops+before.InboxDrops+before.Truncated
		}
		p.Shards = append(p.Shards, row)
	}
	if p.Backend == mixed {
		for i := range p.Shards {
			p.Shards[i].Backend = now.shards[i].Backend.String()
		}
	}
	p.Trains = trains(now.all.TrainSizes, old.all.TrainSizes)
	drop := func(name, note string, count func(*sample) uint64) {
		p.Drops = append(p.Drops, tallyOf(name, note, count(now), count(old), true))
	}
	drop("Receive buffer full", "the kernel had no room; raise net.core.rmem_max", func(s *sample) uint64 { return s.all.KernelDrops })
	drop("Shard inbox full", "datagrams for another shard", func(s *sample) uint64 { return s.all.InboxDrops })
	drop("Not sent", "the kernel lacked memory", func(s *sample) uint64 { return s.all.SendDrops })
	drop("Truncated", "longer than the room for them", func(s *sample) uint64 { return s.all.Truncated })
	quiet := func(name, note string, count func(*sample) uint64) {
		p.Drops = append(p.Drops, tallyOf(name, note, count(now), count(old), false))
	}
	quiet("Not QUIC, or of no connection", "strays and noise", func(s *sample) uint64 { return s.notQUIC })
	quiet("Kept back", "by the inspector of the socket", func(s *sample) uint64 { return s.all.KeptBack })
	quiet("Errors of sent datagrams", "a peer's port was closed", func(s *sample) uint64 { return s.all.Failed })
}

const mixed = "mixed" // several backends in use

func steering(ask func() (bool, string), shards int) string {
	if ask == nil || shards < 2 {
		return ""
	}
	kernel, why := ask()
	if kernel {
		return "by the kernel, by connection ID"
	}
	return "by address and port: " + clip(why, maxText)
}

// trains are the receives of five minutes by their size.
func trains(now, old udp.Sizes) []barRow {
	var sum, most float64
	for i := range now {
		n := grown(now[i], old[i])
		sum, most = sum+n, max(most, n)
	}
	rows := make([]barRow, len(now))
	for i := range now {
		n := grown(now[i], old[i])
		rows[i] = barRow{Name: trainName(i), Total: whole(now[i]), Percent: none}
		if sum > 0 {
			rows[i].Share = 100 * n / most
			rows[i].Percent = digits(100 * n / sum)
		}
	}
	return rows
}

// trainName is "1", "2–3" … "64".
func trainName(i int) string {
	least, most := uint64(1)<<i, uint64(trainMax(i))
	if least == most {
		return whole(least)
	}
	return whole(least) + "–" + whole(most)
}

// tallyOf is a row of a count.
func tallyOf(name, note string, now, old uint64, bad bool) tally {
	n := grown(now, old)
	return tally{Name: name, Note: note, Total: whole(now), Last: whole(uint64(n)), Bad: bad && n > 0}
}
