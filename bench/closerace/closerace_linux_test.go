package closerace

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin/bench/netlab"
	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/bench/rounds"
)

func smallConfig() Config {
	return Config{
		Path: netlab.Loopback, Receivers: Receivers, Directions: Directions, Senders: []string{SenderBurst},
		Sizes: []int{100, 9000}, Delays: []time.Duration{0}, ReaderDelays: []time.Duration{20 * time.Millisecond},
		Procs: []int{2}, Iterations: 8, Connections: 2, Plan: rounds.Plan{Rounds: 2, Seed: 7},
	}
}

// open starts the processes of a bench, which end with the test.
func open(t *testing.T, c Config) *Bench {
	t.Helper()
	b, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// TestBench has every receiver take messages from a burst, both ways.
func TestBench(t *testing.T) {
	c := smallConfig()
	b := open(t, c)
	if expected, err := b.Expected(); err != nil || expected <= 0 {
		t.Errorf("expected to take %v, %v", expected, err)
	}
	for _, cell := range c.Cells() {
		list, err := b.Run(t.Context(), cell, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) != len(Receivers) {
			t.Fatalf("%d rows", len(list))
		}
		for i, row := range list {
			checkRow(t, c, Receivers[i], row)
			if Receivers[i] == Stock && row.Lost == 0 {
				t.Errorf("stock lost nothing though its reader slept: %+v", row)
			}
			if Receivers[i] == DrainOn && row.Saved == 0 {
				t.Errorf("the drain had nothing to do: %+v", row)
			}
		}
	}
}

// checkRow looks at what must hold of any row that was measured, however slow.
func checkRow(t *testing.T, c Config, receiver string, row Row) {
	t.Helper()
	if row.Skipped != "" || row.Requests != c.Iterations || row.Rounds != c.Rounds || len(row.Samples["lost"]) != c.Rounds {
		t.Errorf("%s: %+v", receiver, row)
	}
	if row.Whole+row.Lost+row.NotReceived+row.Unsent != row.Requests || row.Loss < row.LossLow || row.Loss > row.LossHigh {
		t.Errorf("%s: the classes do not add up: %+v", receiver, row)
	}
	if row.Unsent > 0 || row.Backend == "" {
		t.Errorf("%s: %+v", receiver, row)
	}
	if receiver == DrainOn && row.Lost > 0 {
		t.Errorf("the drain lost: %+v", row)
	}
}

// TestBenchOfForeignSenders has real stacks send and close.
func TestBenchOfForeignSenders(t *testing.T) {
	c := smallConfig()
	c.Senders, c.Receivers, c.Sizes = []string{SenderXNet, SenderQUICGo, SenderTailfin}, []string{Stock, DrainOn}, []int{1000}
	c.Iterations, c.Rounds = 3, 1
	b := open(t, c)
	cells := c.Cells()
	if len(cells) != 4 {
		t.Fatalf("cells %+v", cells)
	}
	for _, cell := range cells {
		list, err := b.Run(t.Context(), cell, nil)
		if err != nil {
			t.Fatalf("%+v: %v", cell, err)
		}
		for i, row := range list {
			checkRow(t, c, c.Receivers[i], row)
		}
	}
}

// TestAccount holds what no turn may say.
func TestAccount(t *testing.T) {
	for name, bad := range map[string]result{
		"more whole than received": {outcome: outcome{Received: 1, Whole: 2}, sent: 2, requests: 2},
		"more received than sent":  {outcome: outcome{Received: 3, Whole: 2}, sent: 2, requests: 3},
		"more sent than requests":  {outcome: outcome{Received: 3, Whole: 2}, sent: 4, requests: 3},
		"wrong bytes":              {outcome: outcome{Received: 3, Whole: 2, Wrong: "a message"}, sent: 3, requests: 3},
	} {
		if bad.account(Stock) == nil {
			t.Errorf("%s passes", name)
		}
	}
	if err := (result{outcome: outcome{Received: 3, Whole: 2}, sent: 4, requests: 5}).account(Stock); err != nil {
		t.Error(err)
	}
}

func TestRows(t *testing.T) {
	c := smallConfig()
	cell := c.Cells()[0]
	run := func(received, whole int) []result {
		return []result{{outcome: outcome{Received: received, Whole: whole}, sent: 10, requests: 11}}
	}
	for _, test := range []struct {
		name string
		runs map[string][]result
		want []string // of Receivers
	}{
		{"a race", map[string][]result{Stock: run(10, 4), XNet: run(10, 10), DrainOff: run(10, 9), DrainOn: run(10, 10)}, []string{"", "", "", ""}},
		{"nothing lost", map[string][]result{Stock: run(10, 10), XNet: run(10, 10), DrainOff: run(10, 10), DrainOn: run(10, 10)},
			[]string{nothingAtStake, nothingAtStake, nothingAtStake, nothingAtStake}},
		{"ours alone", map[string][]result{DrainOn: run(10, 10)}, []string{"", "", "", noWitness}},
		{"the path loses", map[string][]result{Stock: run(8, 0), DrainOn: run(10, 10)}, []string{pathDecided, "", "", ""}},
	} {
		var got []string
		for _, row := range rows(&c, cell, &rounds.Results[result]{Runs: test.runs}) {
			got = append(got, row.Invalid)
			if row.Rounds > 0 && row.Whole+row.Lost+row.NotReceived+row.Unsent != row.Requests {
				t.Errorf("%s: %+v", test.name, row)
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// TestTurns holds that the turns of a cell have all messages once.
func TestTurns(t *testing.T) {
	c := smallConfig()
	c.Iterations, c.Rounds = 11, 3
	next := uint64(0)
	for round := range c.Rounds {
		turn := c.turn(c.Cells()[0], Stock, round)
		if turn.First != next {
			t.Errorf("round %d begins with %d, want %d", round, turn.First, next)
		}
		next += uint64(turn.Count)
	}
	if next != uint64(c.Iterations) {
		t.Errorf("%d messages", next)
	}
}

func TestCheck(t *testing.T) {
	good := smallConfig()
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Config){
		"receiver":   func(c *Config) { c.Receivers = []string{"nobody"} },
		"direction":  func(c *Config) { c.Directions = nil },
		"sender":     func(c *Config) { c.Senders = []string{"nobody"} },
		"size":       func(c *Config) { c.Sizes = []int{maxSize + 1} },
		"small":      func(c *Config) { c.Sizes = []int{peer.MinNumbered - 1} },
		"delay":      func(c *Config) { c.Delays = []time.Duration{-1} },
		"procs":      func(c *Config) { c.Procs = []int{0} },
		"iterations": func(c *Config) { c.Iterations = c.Rounds - 1 },
		"conns":      func(c *Config) { c.Connections = 0 },
		"path":       func(c *Config) { c.Path = "nowhere" },
		"no cell":    func(c *Config) { c.Senders, c.Delays = []string{SenderTailfin}, []time.Duration{1} },
	} {
		c := smallConfig()
		if spoil(&c); c.Check() == nil {
			t.Errorf("%s passes", name)
		}
	}
}

// TestJudge holds what counts as whole.
func TestJudge(t *testing.T) {
	const size = 100
	body := func(id uint64) []byte { return peer.Numbered(id, size) }
	spoiled := body(2)
	spoiled[50]++
	for _, test := range []struct {
		name       string
		body       []byte
		err        error
		whole, cut int
		wrong      bool
	}{
		{name: "whole", body: body(2), whole: 1},
		{name: "with an error behind", body: body(2), err: errors.New("closed")},
		{name: "cut, with an error", body: body(2)[:60], err: errors.New("closed")},
		{name: "cut, without an error", body: body(2)[:60], cut: 1},
		{name: "empty", cut: 1},
		{name: "spoiled", body: spoiled, wrong: true},
		{name: "spoiled, with an error", body: spoiled[:60], err: errors.New("closed"), wrong: true},
		{name: "too long", body: append(body(2), 0), wrong: true},
		{name: "of another turn", body: body(7), wrong: true},
	} {
		count := newTally(turn{Size: size, First: 1, Count: 5})
		count.judge(test.body, test.err)
		o := count.outcome()
		if o.Whole != test.whole || o.Cut != test.cut || (o.Wrong != "") != test.wrong {
			t.Errorf("%s: %+v", test.name, o)
		}
	}
	count := newTally(turn{Size: size, First: 1, Count: 5})
	count.judge(body(2), nil)
	count.judge(body(2), nil)
	if count.outcome().Wrong == "" {
		t.Error("a message came twice, and nobody minds")
	}
}
