package closerace

import (
	"fmt"
	"time"

	"github.com/tailfin-quic/tailfin/bench/rounds"
	"github.com/tailfin-quic/tailfin/bench/stat"
)

// A Row is what became of the messages to one receiver in a cell, over all rounds.
// Requests = Whole + Lost + NotReceived + Unsent.
type Row struct {
	Scenario    string  `json:"scenario"` // closerace
	Path        string  `json:"path"`
	Direction   string  `json:"direction"` // upload or download, as a client sees it
	Sender      string  `json:"sender"`
	Receiver    string  `json:"receiver"` // tailfin, quic-go/http3 or x/net/quic
	Reader      string  `json:"reader"`   // stock, xnet, or auto for ours
	Backend     string  `json:"backend"`  // that reads the datagrams
	Drain       string  `json:"drain"`    // on or off; only ours has one
	Bytes       int     `json:"payload_bytes"`
	Delay       float64 `json:"delay_us"`
	ReaderDelay float64 `json:"reader_delay_us"`
	Procs       int     `json:"gomaxprocs"`
	Connections int     `json:"connections"` // at a time
	Rounds      int     `json:"rounds"`

	Requests    int `json:"requests"`
	Whole       int `json:"whole"`        // the application has every byte, and the right ones
	Lost        int `json:"lost"`         // QUIC had every byte before the close, the application has not
	NotReceived int `json:"not_received"` // QUIC had not every byte before the close: the path's loss
	Unsent      int `json:"unsent"`       // never left

	// Loss is Lost of Whole + Lost, with its 95 % interval by Wilson's score.
	Loss     float64 `json:"loss"`
	LossLow  float64 `json:"loss_low"`
	LossHigh float64 `json:"loss_high"`

	Cut      int    `json:"cut"`          // of Lost: bodies that ended too early as if they were whole
	Saved    uint64 `json:"saved_bytes"`  // what the barrier took out of streams at a close
	TimedOut uint64 `json:"timed_out"`    // drains that gave up
	Drops    uint64 `json:"kernel_drops"` // datagrams that the receiver's socket had no room for

	Samples map[string][]float64 `json:"samples,omitempty"`
	Invalid string               `json:"invalid,omitempty"`
	Skipped string               `json:"skipped,omitempty"`
}

// A result is one turn, with what the sender says of it.
type result struct {
	outcome
	requests, sent int
}

func (r result) lost() int { return r.Received - r.Whole }

// account finds what cannot be.
func (r result) account(name string) error {
	switch {
	case r.Wrong != "":
		return fmt.Errorf("%s was given %s", name, r.Wrong)
	case r.Whole > r.Received:
		return fmt.Errorf("%s has %d messages, QUIC received %d", name, r.Whole, r.Received)
	case r.Received > r.sent || r.sent > r.requests:
		return fmt.Errorf("%s received %d messages of %d sent and %d asked for", name, r.Received, r.sent, r.requests)
	}
	return nil
}

// names are how a receiver is called in a row.
var names = map[string]struct{ receiver, reader, drain string }{
	Stock:    {"quic-go/http3", "stock", "off"},
	XNet:     {"x/net/quic", "xnet", "off"},
	DrainOff: {"tailfin", "auto", "off"},
	DrainOn:  {"tailfin", "auto", "on"},
}

// Why rows are invalid.
const (
	nothingAtStake = "nothing was at stake: no receiver without the drain lost anything"
	noWitness      = "no receiver without the drain ran beside it, so that nothing shows that anything was at stake"
	pathDecided    = "more than a tenth of the messages was not received whole: the path has decided, not the receiver"
)

// rows makes a row of each receiver's turns, one a round.
func rows(c *Config, cell Cell, results *rounds.Results[result]) []Row {
	list := make([]Row, 0, len(c.Receivers))
	witnesses, lost := 0, 0
	for _, name := range c.Receivers {
		n := names[name]
		row := Row{
			Scenario: "closerace", Path: c.Path, Direction: cell.Direction, Sender: cell.Sender,
			Receiver: n.receiver, Reader: n.reader, Drain: n.drain, Bytes: cell.Size,
			Delay: micros(cell.Delay), ReaderDelay: micros(cell.ReaderDelay), Procs: cell.Procs,
			Connections: c.workers(cell), Skipped: results.Skipped[name],
		}
		for _, r := range results.Runs[name] {
			row.add(r)
		}
		if row.Rounds > 0 {
			row.Loss, row.LossLow, row.LossHigh = stat.Wilson(row.Lost, row.Lost+row.Whole)
			if name != DrainOn {
				witnesses++
				lost += row.Lost
			}
		}
		list = append(list, row)
	}
	for i := range list {
		row := &list[i]
		switch {
		case row.Rounds == 0:
		case row.NotReceived*10 > row.Requests-row.Unsent:
			row.Invalid = pathDecided
		case cell.Delay == 0 && witnesses == 0:
			row.Invalid = noWitness
		case cell.Delay == 0 && lost == 0:
			row.Invalid = nothingAtStake
		}
	}
	return list
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func (row *Row) add(r result) {
	row.Rounds++
	row.Backend = r.Backend
	row.Requests += r.requests
	row.Unsent += r.requests - r.sent
	row.NotReceived += r.sent - r.Received
	row.Whole += r.Whole
	row.Lost += r.lost()
	row.Cut += r.Cut
	row.Saved += r.Saved
	row.TimedOut += r.TimedOut
	row.Drops += r.Drops
	if row.Samples == nil {
		row.Samples = make(map[string][]float64)
	}
	loss := 0.0
	if r.Received > 0 {
		loss = float64(r.lost()) / float64(r.Received)
	}
	row.Samples["lost"] = append(row.Samples["lost"], float64(r.lost()))
	row.Samples["loss"] = append(row.Samples["loss"], loss)
}
