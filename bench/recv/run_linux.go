package recv

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"runtime"
	"time"

	"github.com/tailfin-quic/tailfin/bench/netlab"
	"github.com/tailfin-quic/tailfin/bench/proc"
	"github.com/tailfin-quic/tailfin/bench/rounds"
)

// Run measures all cells. Rows that could not be measured say why. The error is
// for what ends the whole: a bad Config, a context that is done, or a run whose
// accounts do not add up, which is returned after all rows.
func Run(ctx context.Context, c Config) ([]Row, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	lab, err := netlab.Open(ctx, c.Path)
	if err == nil && !lab.Receiver.Addr.Is4() {
		err = errors.Join(errors.New("the path has no IPv4 address, which bench recv sends to"), lab.Close())
	}
	if err != nil {
		return c.skipped(err), nil
	}
	m := matrix{Config: c, lab: lab, floor: buildFloor(ctx, c.Readers), total: c.Turns()}
	defer m.floor.remove()
	var all []Row
	for i, cell := range c.Cells() {
		list, err := m.measure(ctx, cell, uint64(i))
		all = append(all, list...)
		if err != nil {
			return all, errors.Join(err, lab.Close())
		}
	}
	var wrong []error
	for _, row := range all {
		if row.wrong {
			wrong = append(wrong, fmt.Errorf("%s with %d segments on %s: %s", row.Reader, row.Segments, row.Path, row.Accounting))
		}
	}
	return all, errors.Join(append(wrong, lab.Close())...)
}

// skipped is a row of each reader where there is no path.
func (c *Config) skipped(why error) []Row {
	list := make([]Row, 0, len(c.Readers))
	for _, reader := range c.Readers {
		row := newRow(c.Path, Cell{Pin: c.Pin[0]}, reader)
		row.Skipped = why.Error()
		list = append(list, row)
	}
	return list
}

// A matrix is a Config under way.
type matrix struct {
	Config
	lab         *netlab.Lab
	floor       *floor
	done, total int // turns
}

// measure runs all readers in a cell.
func (m *matrix) measure(ctx context.Context, cell Cell, number uint64) ([]Row, error) {
	var results rounds.Results[run]
	contestants := m.contestants()
	for _, r := range contestants {
		switch why := m.floor.missing[r]; {
		case why != nil:
			results.Skip(r, why)
		case cell.Pin && runtime.NumCPU() < 2:
			results.Skip(r, errNotPinned)
		}
	}
	plan := m.Plan
	plan.Seed += number // each cell has orders of its own
	plan.Progress = func(done, _ int, reader string) { m.tell(done, cell, reader) }
	err := results.Run(ctx, plan, contestants, func(ctx context.Context, reader string) (run, error) {
		return m.once(ctx, cell, reader)
	})
	m.done += len(contestants) * m.Rounds
	list := rows(m.Path, cell, contestants, &results)
	if err != nil || !m.hasForeign(cell) {
		return list, err
	}
	m.tell(1, cell, foreignReader)
	m.done++
	list = append(list, m.foreign(ctx, cell))
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return list, err
}

// errNotPinned is why nothing is measured that wants a processor for each end.
var errNotPinned = errors.New("pinning needs two processors; measure unpinned")

// tell announces a turn of a cell.
func (m *matrix) tell(turn int, cell Cell, reader string) {
	if m.Progress != nil {
		m.Progress(m.done+turn, m.total, fmt.Sprintf("%s, %s, %s", m.Path, cell, reader))
	}
}

// places are where the two ends of a run are.
func (m *matrix) places(cell Cell) (receiver, sender proc.Place) {
	receiver, sender = proc.Places(cell.Pin)
	receiver.Net, sender.Net = m.lab.Receiver.Net, m.lab.Sender.Net
	return receiver, sender
}

// runTimeout is what a run may take beyond its warm-up and its interval.
const runTimeout = 30 * time.Second

// once is one run.
func (m *matrix) once(ctx context.Context, cell Cell, reader string) (r run, err error) {
	interval := m.interval(cell)
	ctx, cancel := context.WithTimeout(ctx, m.Warmup+interval+runTimeout)
	defer cancel()
	conf := receiverConfig{
		Reader: reader, Addr: m.lab.Receiver.Addr, Flows: cell.Flows, Latency: cell.Rate > 0,
		Warmup: m.Warmup, Duration: interval, Buffer: m.Buffer,
	}
	var cmd *exec.Cmd
	if isFloor(reader) {
		cmd = m.floor.command(ctx, conf)
	} else if cmd, err = proc.Command(ctx, roleReceiver, conf); err != nil {
		return r, err
	}
	receiver, sender := m.places(cell)
	before, err := m.lab.Stats()
	if err != nil {
		return r, err
	}
	var sent sentReport
	r.result, sent, err = exchange(ctx, cmd, receiver, senderConfig{
		To: netip.AddrPortFrom(m.lab.Receiver.Addr, 0), Segments: cell.Segments, Payload: cell.Payload, Flows: cell.Flows, Rate: cell.Rate,
	}, sender)
	if err != nil {
		return r, err
	}
	after, err := m.lab.Stats()
	if err != nil {
		return r, err
	}
	r.gone = after.Forward.Gone() - before.Forward.Gone()
	r.sent, r.refused, r.offered = sent.Sent, sent.Refused, float64(sent.Sent)/sent.Seconds
	r.senderUtilization, r.senderLate = sent.utilization(cell.Rate), sent.LateP99
	r.reconcile(cell.Segments, accountOf(m.Path, m.lab.Emulator))
	return r, nil
}
