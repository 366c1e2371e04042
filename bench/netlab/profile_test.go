package netlab

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestCheck(t *testing.T) {
	for _, path := range Paths {
		if err := Check(path); err != nil {
			t.Error(err)
		}
		if p := profiles[path]; path != Loopback && (p.Name != path || p.Check() != nil) {
			t.Errorf("the profile of %s: %+v", path, p)
		}
	}
	if err := Check("moon"); err == nil || !strings.Contains(err.Error(), `no path "moon"`) {
		t.Errorf("%v", err)
	}
	if _, err := Open(t.Context(), "moon"); err == nil {
		t.Error("the moon is open")
	}
}

func TestProfileCheck(t *testing.T) {
	for want, p := range map[string]Profile{
		"MTU 1279":                {MTU: 1279},
		"MTU 9217":                {MTU: 9217},
		`no emulator "ns3"`:       {Emulator: "ns3"},
		"asks for more":           {Emulator: Netem, NAT: true},
		"forward: loss 1.1":       {Forward: Direction{Loss: 1.1}},
		"back: loss NaN":          {Back: Direction{Loss: math.NaN()}},
		"back: reorder -1":        {Back: Direction{Reorder: -1}},
		"forward: delay 11s":      {Forward: Direction{Delay: 11 * time.Second}},
		"forward: rate -1":        {Forward: Direction{Rate: -1}},
		"forward: queue -1":       {Forward: Direction{Queue: -1}},
		"forward: black hole -1":  {Forward: Direction{BlackHole: -1}},
		"back: duplicate 2":       {Back: Direction{Duplicate: 2}},
		"back: hold back -1ns":    {Back: Direction{HoldBack: -1}},
		"forward: jitter 2h0m0s;": {Forward: Direction{Jitter: 2 * time.Hour}},
	} {
		if _, err := Build(t.Context(), p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestQueue(t *testing.T) {
	for _, c := range []struct {
		d    Direction
		want int
	}{
		{Direction{}, 0},
		{Direction{Rate: 1e9}, 2_500_000},
		{Direction{Rate: 1e6}, minQueue},
		{Direction{Rate: 1e6, Queue: 1500}, 1500},
	} {
		if got := c.d.queue(); got != c.want {
			t.Errorf("%+v: %d", c.d, got)
		}
	}
}

func TestNoNATNoRebinding(t *testing.T) {
	lab, err := Open(t.Context(), Loopback)
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.Rebind(RebindPort); err == nil {
		t.Error("loopback was rebound")
	}
	if s, err := lab.Stats(); err != nil || s != (Stats{}) {
		t.Errorf("%+v, %v", s, err)
	}
	if err := lab.Close(); err != nil {
		t.Error(err)
	}
}
