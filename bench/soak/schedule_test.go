package soak

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func hour() Config {
	return Config{Time: time.Hour, Every: 5 * time.Second, Gap: 20 * time.Second, Takeovers: 3, Clients: 1, Path: PathAuto, Backend: "auto", Seed: 7}
}

// TestSchedule holds what is drawn against what is promised of it.
func TestSchedule(t *testing.T) {
	for _, wire := range []bool{true, false} {
		c := hour()
		list := c.schedule(wire)
		if diff := cmp.Diff(list, c.schedule(wire)); diff != "" {
			t.Error("another schedule of the same seed", diff)
		}
		kinds := map[Kind]int{}
		end := 0.0
		var over []float64
		for i, e := range list {
			if e.At < end || e.At+e.For > c.Time.Seconds()-maxRest.Seconds() {
				t.Errorf("event %d: %v, and the one before ends at %v", i, e, end)
			}
			if e.Kind == Takeover {
				over = append(over, e.At)
			} else if len(over) > 0 && e.At < over[len(over)-1]+maxRest.Seconds() {
				t.Errorf("%v is too near to the take-over at %v", e, over[len(over)-1])
			}
			end = e.At + e.For
			kinds[e.Kind]++
			if d := e.shape(); d.Loss > 1 || d.Reorder > 1 || d.Delay != calm.Delay || len(e.String()) < 8 {
				t.Errorf("%v: %+v", e, d)
			}
		}
		if diff := cmp.Diff([]float64{600, 1200, 1800}, over); diff != "" {
			t.Error(diff)
		}
		want := len(anywhere) + 1
		if wire {
			want += len(onWire) + 1 // and the NAT
		}
		if len(kinds) != want || len(list) < 100 {
			t.Errorf("%d events of %v", len(list), kinds)
		}
		for k, n := range kinds {
			if k != Takeover && n < len(list)/want/2 {
				t.Errorf("%s comes %d times of %d", k, n, len(list))
			}
		}
	}
	c := hour()
	c.Seed++
	if a, b := hour(), c; cmp.Equal(a.schedule(true), b.schedule(true)) {
		t.Error("the same schedule of another seed")
	}
	c.Gap = 0
	if list := c.schedule(true); len(list) != c.Takeovers {
		t.Errorf("faults though none are wanted: %v", list)
	}
	// A short run has some, too.
	c = Config{Time: 6 * time.Second, Gap: 20 * time.Second, Takeovers: 1, Seed: 1}
	if list := c.schedule(false); len(list) < 3 || list[len(list)-1].At > 6 {
		t.Errorf("%v", list)
	}
}

func TestCheck(t *testing.T) {
	good := hour()
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(c *Config){
		"a soak of 0s":         func(c *Config) { c.Time = 0 },
		"samples every 1m0s":   func(c *Config) { c.Every = time.Minute },
		"faults every -1s":     func(c *Config) { c.Gap = -time.Second },
		"101 take-overs":       func(c *Config) { c.Takeovers = 101 },
		"0 times the usual":    func(c *Config) { c.Clients = 0 },
		`no path "moon"`:       func(c *Config) { c.Path = "moon" },
		"samples every 1ms; g": func(c *Config) { c.Every = time.Millisecond },
	} {
		c := good
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
