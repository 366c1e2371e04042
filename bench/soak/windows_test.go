package soak

import (
	"testing"
	"time"
)

func TestWindows(t *testing.T) {
	var w windows
	zero := time.Now()
	at := func(s int) time.Time { return zero.Add(time.Duration(s) * time.Second) }
	for _, step := range []struct {
		do         func()
		begin, end int
		want       effect
	}{
		{func() {}, 0, 100, harmless},
		{func() { w.on(Loss, at(10)) }, 0, 9, harmless},
		{func() {}, 0, 11, breaks},
		{func() { w.on(Stop, at(12)); w.off(Stop, at(13)); w.off(Loss, at(20)) }, 13, 14, breaks},
		{func() {}, 24, 30, breaks},                        // it has just ended
		{func() {}, 26, 30, harmless},                      // and is over
		{func() {}, 0, 1000, breaks},                       // all of it
		{func() { w.off(Loss, at(30)) }, 26, 40, harmless}, // it was not on
		{func() { w.on(Reload, at(50)); w.off(Reload, at(51)) }, 49, 60, harmless},
		{func() { w.dropped(5*time.Second, at(65)) }, 61, 64, drops},
		{func() {}, 65, 70, harmless},
		{func() { w.on(Takeover, at(2000)) }, 61, 64, drops},
		{func() { w.off(Takeover, at(2010)) }, 61, 64, harmless}, // forgotten
		{func() {}, 1990, 2001, drops},
	} {
		step.do()
		if got := w.worst(at(step.begin), at(step.end)); got != step.want {
			t.Errorf("from %d to %d: %v, want %v", step.begin, step.end, got, step.want)
		}
	}
	if len(w.past) != 1 {
		t.Errorf("%d windows are kept", len(w.past))
	}
}
