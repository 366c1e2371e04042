package rounds

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEachRunsOnceARound(t *testing.T) {
	names := []string{"a", "b", "c", "d"}
	var order []string
	var told int
	plan := Plan{Rounds: 20, Seed: 7, Progress: func(done, total int, _ string) {
		if told++; done != told || total != 80 {
			t.Errorf("turn %d was announced as %d of %d", told, done, total)
		}
	}}
	var r Results[int]
	err := r.Run(t.Context(), plan, names, func(_ context.Context, name string) (int, error) {
		order = append(order, name)
		return len(order), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	orders := make(map[[4]string]bool)
	for round := range slices.Chunk(order, len(names)) {
		if diff := cmp.Diff(names, slices.Sorted(slices.Values(round))); diff != "" {
			t.Fatalf("a round is not of all (-want +got):\n%s", diff)
		}
		orders[[4]string(round)] = true
	}
	if len(orders) < 5 {
		t.Errorf("20 rounds had %d different orders", len(orders))
	}
	for _, name := range names {
		if len(r.Runs[name]) != plan.Rounds {
			t.Errorf("%s has %d runs", name, len(r.Runs[name]))
		}
	}
	// The same seed gives the same orders.
	first := order
	order = nil
	plan.Progress = nil
	_ = new(Results[int]).Run(t.Context(), plan, names, func(_ context.Context, name string) (int, error) {
		order = append(order, name)
		return 0, nil
	})
	if diff := cmp.Diff(first, order); diff != "" {
		t.Errorf("the same seed made another order (-first +second):\n%s", diff)
	}
}

func TestOneThatFailsIsSkipped(t *testing.T) {
	var r Results[int]
	r.Skip("absent", errors.New("no such program"))
	calls := map[string]int{}
	err := r.Run(t.Context(), Plan{Rounds: 5}, []string{"good", "bad", "absent"}, func(_ context.Context, name string) (int, error) {
		calls[name]++
		if name == "bad" && calls[name] == 3 {
			return 0, errors.New("out of order")
		}
		return calls[name], nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int{"good": 5, "bad": 3}, calls); diff != "" {
		t.Errorf("turns (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string][]int{"good": {1, 2, 3, 4, 5}}, r.Runs); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"bad": "out of order", "absent": "no such program"}, r.Skipped); diff != "" {
		t.Errorf("skipped (-want +got):\n%s", diff)
	}
}

func TestWhatEndsAll(t *testing.T) {
	var r Results[int]
	wrong := errors.New("bytes are missing")
	if err := r.Run(t.Context(), Plan{Rounds: 5}, []string{"a"}, func(context.Context, string) (int, error) {
		return 0, &Invalid{wrong}
	}); !errors.Is(err, wrong) {
		t.Errorf("an invalid run ended with %v", err)
	}
	if r.Invalid["a"] != wrong.Error() || len(r.Runs["a"]) > 0 {
		t.Errorf("invalid %v, runs %v", r.Invalid, r.Runs)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("interrupted")
	if err := r.Run(ctx, Plan{Rounds: 5}, []string{"a"}, func(context.Context, string) (int, error) {
		cancel(cause)
		return 0, ctx.Err()
	}); !errors.Is(err, cause) {
		t.Errorf("a context that is done ended with %v", err)
	}
}

func TestRatio(t *testing.T) {
	r := Results[float64]{Runs: map[string][]float64{"a": {1, 2, 9}, "b": {2, 2, 3}}}
	of := func(f float64) float64 { return f }
	if got := r.Ratio("a", "b", of); got == nil || got.Median != 1 || got.Low != 0.5 || got.High != 3 {
		t.Errorf("ratio %+v", got)
	}
	if r.Ratio("a", "c", of) != nil {
		t.Error("a ratio to nothing")
	}
	if m := r.Median("a", of); m != 2 {
		t.Errorf("median %v", m)
	}
}

func TestSamples(t *testing.T) {
	r := Results[float64]{Runs: map[string][]float64{"a": {1, 4, 9}}}
	got := r.Samples("a", Figures[float64]{"square": func(f float64) float64 { return f }, "root": math.Sqrt})
	if diff := cmp.Diff(map[string][]float64{"square": {1, 4, 9}, "root": {1, 2, 3}}, got); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
	if r.Samples("b", Figures[float64]{"root": math.Sqrt}) != nil {
		t.Error("samples of no runs")
	}
}
