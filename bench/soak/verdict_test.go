package soak

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// A course is how a made-up field goes on: by the time in seconds, the time of its process,
// and chance.
type course func(at, age float64, rng *rand.Rand) float64

// made has samples of an hour, one each 5 seconds, of processes that begin at some times.
// All fields are flat but those that are given.
func made(seed uint64, begins []float64, courses map[string]course) *series {
	rng := rand.New(rand.NewPCG(seed, 1))
	s := &series{}
	process, begin := 0, 0.0
	for at := 5.0; at <= 3600; at += 5 {
		if process < len(begins) && at >= begins[process] {
			begin = begins[process]
			process++
		}
		one := sample{}
		for _, l := range limits {
			one[l.name] = 100
		}
		for name, f := range courses {
			one[name] = f(at, at-begin, rng)
		}
		s.add(at, process, one)
	}
	return s
}

// The heap of a process under load: up to a level in a minute, then between garbage
// collections, with a burst now and then.
func heap(_, age float64, rng *rand.Rand) float64 {
	v := 12e6 * (1 - 0.5*math.Exp(-age/20)) * (1 + 0.15*rng.NormFloat64())
	if rng.IntN(40) == 0 {
		v += 20e6 * rng.Float64()
	}
	return v
}

func TestJudge(t *testing.T) {
	overs := []float64{600, 1200, 1800}
	steady := func(level, noise float64) course {
		return func(_, _ float64, rng *rand.Rand) float64 { return math.Round(level + noise*rng.NormFloat64()) }
	}
	leak := func(f course, hourly float64) course {
		return func(at, age float64, rng *rand.Rand) float64 { return f(at, age, rng) + hourly*age/3600 }
	}
	level := map[string]course{
		fieldHeap:       heap,
		fieldRSS:        func(at, age float64, rng *rand.Rand) float64 { return 60e6 + 2*heap(at, age, rng) },
		fieldGoroutines: steady(320, 20),
		fieldFDs:        steady(40, 4),
		fieldConns:      steady(90, 12),
		// Up and down with the load, minutes long.
		fieldAtWork: func(at, _ float64, rng *rand.Rand) float64 {
			return math.Round(8 + 4*math.Sin(at/120) + 2*rng.NormFloat64())
		},
		// One that ends at last: it fills up, and is full by the end of the warm-up.
		fieldMaps: func(_, age float64, _ *rand.Rand) float64 { return 300 + 100*min(1, age/100) },
	}
	for seed := range uint64(4) {
		for _, begins := range [][]float64{nil, overs} {
			if list := judge(made(seed, begins, level)); len(growing(list)) > 0 || slices.ContainsFunc(list, func(l Level) bool { return l.Result != IsLevel }) {
				t.Errorf("seed %d, take-overs %v: %+v", seed, begins, list)
			}
		}
	}
	// A leak is of one process, and begins anew with the next.
	for name, hourly := range map[string]float64{
		fieldHeap: 12e6, fieldRSS: 60e6, fieldGoroutines: 120, fieldFDs: 20, fieldConns: 60, fieldAtWork: 30, fieldMaps: 100,
	} {
		for seed := range uint64(2) {
			for _, begins := range [][]float64{nil, overs} {
				courses := map[string]course{}
				for n, f := range level {
					courses[n] = f
				}
				courses[name] = leak(level[name], hourly)
				list := judge(made(seed, begins, courses))
				if got := growing(list); !slices.Equal(got, []string{name}) {
					t.Errorf("seed %d, take-overs %v: %s leaks %v an hour, and what is found is %v", seed, begins, name, hourly, got)
				}
			}
		}
	}
}

// TestJudgeSteps has leaks that are no slope: what is lost at once, and by descriptors one
// at a time.
func TestJudgeSteps(t *testing.T) {
	for name, f := range map[string]course{
		fieldFDs:   func(at, _ float64, _ *rand.Rand) float64 { return 40 + math.Floor(at/240) },
		fieldConns: func(at, _ float64, _ *rand.Rand) float64 { return 90 + 15*math.Floor(at/700) },
	} {
		if got := growing(judge(made(1, nil, map[string]course{name: f}))); !slices.Equal(got, []string{name}) {
			t.Errorf("%s: %v", name, got)
		}
	}
	// What shrinks is no leak.
	list := judge(made(1, nil, map[string]course{fieldRSS: func(at, _ float64, _ *rand.Rand) float64 { return 200e6 - 20e3*at }}))
	if got := growing(list); len(got) > 0 {
		t.Errorf("what shrinks is taken for growing: %v", got)
	}
}

// TestJudgeShort has what cannot be judged.
func TestJudgeShort(t *testing.T) {
	s := &series{}
	if list := judge(s); len(growing(list)) > 0 || list[0].Result != TooShort {
		t.Errorf("%+v", list)
	}
	for at := range 140 {
		s.add(float64(at), 0, sample{fieldHeap: float64(at) * 1e6})
	}
	if list := judge(s); len(growing(list)) > 0 || list[0].Result != TooShort || list[0].Most != 139e6 {
		t.Errorf("%+v", list)
	}
	// Processes that are each too short, though the run is not.
	s = &series{}
	for at := range 600 {
		s.add(float64(at), at/140, sample{fieldHeap: float64(at) * 1e6})
	}
	if list := judge(s); list[0].Result != TooShort {
		t.Errorf("%+v", list)
	}
}

func TestThin(t *testing.T) {
	s := &series{}
	for i := range 2001 {
		s.add(float64(i), i/700, sample{fieldFDs: float64(i), fieldHeap: 1})
	}
	thin := s.thin(100)
	if n := len(thin.at); n > 100 || n < 80 || len(thin.values[fieldFDs]) != n || len(thin.process) != n {
		t.Fatalf("%d samples", n)
	}
	if !slices.IsSorted(thin.at) || !slices.IsSorted(thin.values[fieldFDs]) || len(thin.begins()) != 2 || thin.begins()[0] < 700 {
		t.Errorf("%v of %v", thin.begins(), thin.at)
	}
	if same := s.thin(2001); same != s {
		t.Error("thinned though there was no need")
	}
	if s.median(fieldFDs) != 1000 || s.most(fieldFDs) != 2000 || s.median("goats") != 0 || s.most("goats") != 0 {
		t.Errorf("median %v, most %v", s.median(fieldFDs), s.most(fieldFDs))
	}
}

func TestCompare(t *testing.T) {
	before := sample{fieldConns: 0, fieldAtWork: 0, fieldPartials: 0, fieldGoroutines: 30, fieldFDs: 20}
	after := sample{fieldConns: 0, fieldAtWork: 0, fieldPartials: 0, fieldGoroutines: 34, fieldFDs: 28}
	if list, back := compare(before, after); !back || len(list) != len(bases) {
		t.Errorf("%+v", list)
	}
	for name, v := range map[string]float64{fieldConns: 1, fieldGoroutines: 39, fieldFDs: 29, fieldPartials: 1} {
		left := sample{}
		for n, v := range after {
			left[n] = v
		}
		left[name] = v
		list, back := compare(before, left)
		if back || slices.IndexFunc(list, func(b Base) bool { return b.Name == name && !b.Back }) < 0 {
			t.Errorf("%s: %+v", name, list)
		}
	}
}
