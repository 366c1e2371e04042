package netlab

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// An arrival is a packet that a shaper has given out.
type arrival struct {
	n  int
	at time.Duration
}

// through sends n packets of size bytes through a shaper, one each gap.
func through(s *shaper, n, size int, gap time.Duration) (got []arrival) {
	give := func(until time.Duration) {
		for {
			next, ok := s.next(0)
			if !ok || next > until {
				return
			}
			p := s.give()
			s.sent(p)
			got = append(got, arrival{int(binary.BigEndian.Uint32(p.data)), p.due})
			s.recycle(p)
		}
	}
	for i := range n {
		now := time.Duration(i) * gap
		s.idle = now
		give(now)
		p := s.spare()
		p.data = p.data[:vnetHeader+size]
		binary.BigEndian.PutUint32(p.data, uint32(i))
		s.take(now, p)
	}
	give(math.MaxInt64)
	return got
}

func numbers(a []arrival) (n []int) {
	for _, x := range a {
		n = append(n, x.n)
	}
	return n
}

func TestShaperDelays(t *testing.T) {
	const n = 1000
	for _, a := range through(newShaper(Direction{Delay: 7 * time.Millisecond}, 1, 0, 1500), n, 100, time.Millisecond) {
		if want := time.Duration(a.n)*time.Millisecond + 7*time.Millisecond; a.at != want {
			t.Fatalf("packet %d at %v, want %v", a.n, a.at, want)
		}
	}
	got := through(newShaper(Direction{Delay: 7 * time.Millisecond, Jitter: 5 * time.Millisecond}, 1, 0, 1500), n, 100, time.Millisecond)
	late := map[time.Duration]bool{}
	for i, a := range got {
		over := a.at - time.Duration(a.n)*time.Millisecond - 7*time.Millisecond
		late[over.Truncate(time.Millisecond)] = true
		if a.n != i || over < 0 || over > 5*time.Millisecond {
			t.Fatalf("place %d: packet %d is %v late", i, a.n, over)
		}
	}
	if len(got) != n || len(late) < 5 {
		t.Errorf("%d packets, late by %v", len(got), late)
	}
}

func TestShaperLosesBySeed(t *testing.T) {
	const n, part = 10_000, 0.05
	run := func(seed, stream uint64, d Direction) ([]int, Counters) {
		s := newShaper(d, seed, stream, 1500)
		return numbers(through(s, n, 100, time.Microsecond)), s.counters()
	}
	first, c := run(1, 0, Direction{Loss: part})
	// Six standard deviations of the binomial distribution.
	if off := math.Abs(float64(c.Lost) - n*part); off > 6*math.Sqrt(n*part*(1-part)) {
		t.Errorf("%d lost of %d", c.Lost, n)
	}
	if uint64(len(first)) != c.Passed || c.Passed+c.Lost != n {
		t.Errorf("%d arrived, %+v", len(first), c)
	}
	if again, _ := run(1, 0, Direction{Loss: part}); !slices.Equal(first, again) {
		t.Error("the same seed lost others")
	}
	if other, _ := run(2, 0, Direction{Loss: part}); slices.Equal(first, other) {
		t.Error("another seed lost the same")
	}
	if other, _ := run(1, 1, Direction{Loss: part}); slices.Equal(first, other) {
		t.Error("the other direction lost the same")
	}
	// What else befalls packets changes nothing in which are lost.
	more, _ := run(1, 0, Direction{Loss: part, Jitter: time.Millisecond, Reorder: 0.1, Duplicate: 0.1})
	slices.Sort(more)
	if !slices.Equal(first, more) {
		t.Error("with jitter, reordering and duplicates others are lost")
	}
}

func TestShaperReorders(t *testing.T) {
	const n, part = 10_000, 0.1
	s := newShaper(Direction{Reorder: part, HoldBack: 50 * time.Millisecond}, 1, 0, 1500)
	got := through(s, n, 100, time.Millisecond)
	overtaken := 0
	for i := 1; i < len(got); i++ {
		if got[i].at < got[i-1].at {
			t.Fatal("time goes back")
		}
		if got[i].n < got[i-1].n {
			overtaken++
		}
	}
	c := s.counters()
	if len(got) != n || math.Abs(float64(c.HeldBack)-n*part) > 6*math.Sqrt(n*part*(1-part)) || overtaken < n*part/2 {
		t.Errorf("%d packets, %d overtaken, %+v", len(got), overtaken, c)
	}
}

func TestShaperHasARate(t *testing.T) {
	// 1000 bytes a millisecond, of which twice as many come in.
	s := newShaper(Direction{Rate: 8e6, Queue: 10_000, Delay: time.Millisecond}, 1, 0, 1500)
	got := through(s, 1000, 1000, 500*time.Microsecond)
	for i, a := range got {
		if wait := a.at - time.Duration(a.n)*500*time.Microsecond; wait < 2*time.Millisecond || wait > 12*time.Millisecond {
			t.Fatalf("packet %d took %v", a.n, wait)
		}
		if i > 0 && a.at-got[i-1].at < time.Millisecond {
			t.Fatalf("packet %d is %v after that before", a.n, a.at-got[i-1].at)
		}
	}
	if c := s.counters(); c.Passed+c.Overflowed != 1000 || c.Passed < 500 || c.Passed > 520 {
		t.Errorf("%+v", c)
	}
}

func TestShaperBlackHole(t *testing.T) {
	s := newShaper(Direction{BlackHole: 1300}, 1, 0, 1500)
	if got := through(s, 10, 1300, 0); len(got) != 10 {
		t.Errorf("%d small ones passed", len(got))
	}
	if got := through(s, 10, 1301, 0); len(got) != 0 {
		t.Errorf("%d big ones passed", len(got))
	}
	if diff := cmp.Diff(Counters{Passed: 10, TooBig: 10, Largest: 1300}, s.counters()); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
}

func TestShaperIsBounded(t *testing.T) {
	s := newShaper(Direction{Delay: time.Second}, 1, 0, 64)
	got := through(s, maxUnderWay+100, 64, 0)
	if c := s.counters(); len(got) != maxUnderWay || c.Overflowed != 100 {
		t.Errorf("%d packets, %+v", len(got), c)
	}
}

func BenchmarkShaper(b *testing.B) {
	b.ReportAllocs()
	s := newShaper(wan, 1, 0, 1500)
	now := time.Duration(0)
	for b.Loop() {
		now += 10 * time.Microsecond
		s.idle = now
		p := s.spare()
		p.data = p.data[:vnetHeader+1280]
		s.take(now, p)
		for next, ok := s.next(now); ok && next <= 0; next, ok = s.next(now) {
			q := s.give()
			s.sent(q)
			s.recycle(q)
		}
	}
}

// TestShaperAllocatesNothing holds that, once all that is under way has come in once.
func TestShaperAllocatesNothing(t *testing.T) {
	s := newShaper(Direction{Delay: 5 * time.Millisecond}, 1, 0, 1500)
	through(s, 100, 100, time.Millisecond)
	now := time.Hour
	if n := testing.AllocsPerRun(1000, func() {
		now += time.Millisecond
		p := s.spare()
		p.data = p.data[:vnetHeader+100]
		s.take(now, p)
		for next, ok := s.next(now); ok && next <= 0; next, ok = s.next(now) {
			s.recycle(s.give())
		}
	}); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
}

// TestShaperMakesUpForAWireThatWaits has packets that waited for the wire find no fuller a
// queue than if it had taken them in time; and none leaves before it was taken.
func TestShaperMakesUpForAWireThatWaits(t *testing.T) {
	const stall = 50 * time.Millisecond
	s := newShaper(Direction{Rate: 8e6, Queue: 10_000}, 1, 0, 1500) // 1000 bytes a millisecond
	s.idle = 0
	for range 100 {
		p := s.spare()
		p.data = p.data[:vnetHeader+1000]
		s.take(stall, p)
	}
	if c := s.counters(); c.Overflowed != 40 {
		t.Errorf("50 were sent meanwhile and 10 have room, but of 100 are lost %d", c.Overflowed)
	}
	if next, ok := s.next(stall); !ok || next < 0 {
		t.Errorf("the first is due %v after it was taken", next)
	}
}
