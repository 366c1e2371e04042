package netlab

import (
	"testing"
	"time"
)

// TestShape makes a path worse and well again while it is up, by a wire of this process
// and by one of its own.
func TestShape(t *testing.T) {
	for name, p := range map[string]Profile{"here": {Emulator: Wire}, "process": {Emulator: Wire, Process: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab := buildLab(t, p)
			receiver, sender := ends(t, lab)
			b := make([]byte, 16)
			// The wire tells what has become of each, so that no time has to pass for it.
			send := func(n int, done func(Counters) bool) {
				t.Helper()
				for i := range n {
					b[0] = byte(i)
					if _, err := sender.WriteToUDPAddrPort(b[:1], addrOf(receiver)); err != nil {
						t.Fatal(err)
					}
				}
				for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
					s, err := lab.Stats()
					if err != nil || time.Now().After(deadline) {
						t.Fatalf("%+v, %v", s, err)
					}
					if done(s.Forward) {
						return
					}
				}
			}
			receive := func(n int) {
				t.Helper()
				for i := range n {
					if _, _, err := receiver.ReadFromUDPAddrPort(b); err != nil || b[0] != byte(i) {
						t.Fatalf("%d: %v, %v", i, b[0], err)
					}
				}
			}
			const n = 20
			send(n, func(c Counters) bool { return c.Passed == n })
			receive(n)
			if err := lab.Shape(Direction{Loss: 1}, Direction{}); err != nil {
				t.Fatal(err)
			}
			send(n, func(c Counters) bool { return c.Passed == n && c.Lost == n })
			if err := lab.Shape(Direction{Delay: time.Millisecond}, Direction{}); err != nil {
				t.Fatal(err)
			}
			send(n, func(c Counters) bool { return c.Passed == 2*n && c.Lost == n })
			receive(n)
			if err := lab.Shape(Direction{Loss: 2}, Direction{}); err == nil {
				t.Error("more than all was to be lost")
			}
		})
	}
	lab := loopback()
	if err := lab.Shape(Direction{}, Direction{}); err == nil {
		t.Error("loopback took a shape")
	}
}
