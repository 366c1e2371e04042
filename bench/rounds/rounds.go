// Package rounds has contestants take turns: in a round each runs once, in an order
// that is drawn anew. What drifts in a machine meets all of them alike, and each run
// has others of its round to be compared with.
package rounds

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/tailfin-quic/tailfin/bench/stat"
)

// A Plan says how often, and in what orders.
type Plan struct {
	Rounds int
	Seed   uint64 // of the orders, which can be had again

	// Progress, if set, is told before each turn.
	Progress func(done, total int, what string)
}

// maxRounds bounds Plan.Rounds.
const maxRounds = 1000

// Check says what is wrong with a Plan.
func (p *Plan) Check() error {
	if p.Rounds < 1 || p.Rounds > maxRounds {
		return fmt.Errorf("%d pairs; give 1 to %d", p.Rounds, maxRounds)
	}
	return nil
}

// An Invalid error ends the whole: what was measured is wrong, not merely missing.
type Invalid struct{ Err error }

func (e *Invalid) Error() string { return e.Err.Error() }
func (e *Invalid) Unwrap() error { return e.Err }

// Results has the runs of each contestant, one a round.
type Results[R any] struct {
	Runs    map[string][]R
	Skipped map[string]string // why a contestant has none
	Invalid map[string]string // why what a contestant did is not to be believed
}

// Skip has a contestant take no turns, and says why.
func (r *Results[R]) Skip(contestant string, why error) {
	if r.Skipped == nil {
		r.Skipped = make(map[string]string)
	}
	r.Skipped[contestant] = why.Error()
}

// Spoil says that what a contestant did is not to be believed, and why: it has no runs
// then, and so no ratios.
func (r *Results[R]) Spoil(contestant string, why error) {
	if r.Invalid == nil {
		r.Invalid = make(map[string]string)
	}
	r.Invalid[contestant] = why.Error()
	delete(r.Runs, contestant)
}

// Run has the contestants take their turns, but for those that are skipped already. A
// contestant that fails once is skipped from there on, and its runs do not count. The
// error is that of a context that is done, or an Invalid one.
func (r *Results[R]) Run(ctx context.Context, p Plan, contestants []string, turn func(ctx context.Context, contestant string) (R, error)) error {
	r.Runs = make(map[string][]R)
	rng := rand.New(rand.NewPCG(p.Seed, 0)) //nolint:gosec // an order, and one that can be had again
	done, total := 0, p.Rounds*len(contestants)
	for range p.Rounds {
		order := slices.Clone(contestants)
		rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, name := range order {
			if done++; r.Skipped[name] != "" {
				continue
			}
			if p.Progress != nil {
				p.Progress(done, total, name)
			}
			run, err := turn(ctx, name)
			var invalid *Invalid
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case errors.As(err, &invalid):
				r.Spoil(name, err)
				return err
			case err != nil:
				r.Skip(name, err)
				delete(r.Runs, name)
			default:
				r.Runs[name] = append(r.Runs[name], run)
			}
		}
	}
	return nil
}

// Ratio is a's value over b's, round by round; nil if there is no round in which both
// have one.
func (r *Results[R]) Ratio(a, b string, of func(R) float64) *stat.Ratio {
	return stat.RatioOf(r.Runs[a], r.Runs[b], of)
}

// Median is the median of what a contestant's runs have; NaN without any.
func (r *Results[R]) Median(of string, f func(R) float64) float64 {
	return stat.MedianOf(r.Runs[of], f)
}
