package recv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"time"

	"github.com/tailfin-quic/tailfin/bench/proc"
)

// Run measures all cells. Rows that could not be measured say why. The error is
// for what ends the whole: a bad Config, a context that is done, or a run whose
// accounts do not add up, which is returned after all rows.
func Run(ctx context.Context, c Config) ([]Row, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	cpus := runtime.NumCPU()
	rng := rand.New(rand.NewPCG(c.Seed, 0)) //nolint:gosec // an order, and one that can be had again
	floor, floorErr := buildFloor(ctx, c.Readers)
	defer floor.remove()
	cells := c.Cells()
	var all []Row
	done, total := 0, len(cells)*len(c.Readers)*c.Pairs
	for _, cell := range cells {
		runs, skipped := map[string][]run{}, map[string]string{}
		if cell.Pin && cpus < 2 {
			for _, r := range c.Readers {
				skipped[r] = "pinning needs two processors"
			}
		}
		for range c.Pairs {
			for _, reader := range c.shuffled(rng) {
				done++
				if skipped[reader] != "" {
					continue
				}
				if isFloor(reader) && floorErr != nil {
					skipped[reader] = floorErr.Error()
					continue
				}
				if c.Progress != nil {
					c.Progress(done, total, fmt.Sprintf("%s %s", cell, reader))
				}
				r, err := c.once(ctx, cell, reader, floor)
				if ctx.Err() != nil {
					return all, context.Cause(ctx)
				}
				if err != nil {
					skipped[reader] = err.Error()
					continue
				}
				runs[reader] = append(runs[reader], r)
			}
		}
		all = append(all, rows(cell, c.Readers, runs, skipped)...)
	}
	for _, row := range all {
		if row.Skipped == "" && row.Accounting != "exact" {
			return all, fmt.Errorf("%s with %d segments: %s", row.Reader, row.Segments, row.Accounting)
		}
	}
	return all, nil
}

// once is one run.
func (c *Config) once(ctx context.Context, cell Cell, reader string, floor *floor) (r run, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.Warmup+c.Duration+30*time.Second)
	defer cancel()
	conf := receiverConfig{
		Reader: reader, Flows: cell.Flows, Latency: cell.Rate > 0,
		Warmup: c.Warmup, Duration: c.Duration, Buffer: c.Buffer,
	}
	var cmd *exec.Cmd
	if isFloor(reader) {
		cmd = floor.command(ctx, conf)
	} else if cmd, err = proc.Command(ctx, roleReceiver, conf); err != nil {
		return r, err
	}
	receiver, sender := proc.Places(cell.Pin)
	p, port, err := startReceiver(cmd, receiver)
	if err != nil {
		return r, err
	}
	sent, err := runSender(ctx, senderConfig{
		Port: port, Segments: cell.Segments, Payload: cell.Payload, Flows: cell.Flows, Rate: cell.Rate,
		Duration: c.Warmup + c.Duration + slack,
	}, sender)
	if err != nil {
		p.Kill()
		return r, fmt.Errorf("sender: %w", err)
	}
	if err = p.End(&r.result); err != nil {
		return r, err
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	r.sent, r.offered = sent.Sent, float64(sent.Sent)/sent.Seconds
	r.reconcile(cell.Segments)
	return r, nil
}
