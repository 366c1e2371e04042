package closerace

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/tailfin-quic/tailfin/bench/netlab"
	"github.com/tailfin-quic/tailfin/bench/proc"
	"github.com/tailfin-quic/tailfin/bench/rounds"
)

// The roles of this bench's processes.
const (
	roleReceiver = "closerace-receiver"
	roleSender   = "closerace-sender"
)

// Roles are what a program that calls Open must give to proc.Child. Servers show a
// certificate that newCert makes, which clients trust whatever it says.
func Roles(newCert func() (tls.Certificate, error)) map[string]proc.Role {
	return map[string]proc.Role{
		roleReceiver: proc.RoleOf(func(c receiverConfig, in io.Reader, out io.Writer) error { return receive(c, newCert, in, out) }),
		roleSender:   proc.RoleOf(func(c senderConfig, in io.Reader, out io.Writer) error { return send(c, newCert, in, out) }),
	}
}

// A Bench is a path with a process at either end.
type Bench struct {
	conf             Config
	lab              *netlab.Lab
	receiver, sender *proc.Process
}

// Open sets the path up and starts the processes. They end with ctx, or with Close.
func Open(ctx context.Context, c Config) (b *Bench, err error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	b = &Bench{conf: c}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Close())
		}
	}()
	if b.lab, err = netlab.Open(ctx, c.Path); err != nil {
		return nil, err
	}
	if b.receiver, err = start(ctx, roleReceiver, receiverConfig{b.lab.Receiver.Addr}, b.lab.Receiver); err != nil {
		return nil, fmt.Errorf("receiver: %w", err)
	}
	if b.sender, err = start(ctx, roleSender, senderConfig{b.lab.Sender.Addr}, b.lab.Sender); err != nil {
		return nil, fmt.Errorf("sender: %w", err)
	}
	return b, nil
}

func start(ctx context.Context, role string, config any, host netlab.Host) (*proc.Process, error) {
	return proc.StartRole(ctx, role, config, proc.Place{CPU: proc.AnyCPU, Net: host.Net})
}

// Close ends the processes and takes the path down.
func (b *Bench) Close() error {
	for _, p := range []*proc.Process{b.receiver, b.sender} {
		if p != nil {
			p.Kill()
		}
	}
	if b.lab != nil {
		return b.lab.Close()
	}
	return nil
}

// A Loss is the error of a cell in which the drain lost messages.
type Loss struct{ Row Row }

func (e *Loss) Error() string {
	r := e.Row
	return fmt.Sprintf("the drain lost %d of %d messages, %d drains timed out (%s from %s, %d bytes, close %v µs behind FIN, reader slow by %v µs, GOMAXPROCS %d, over %s); please report this with `tailfin doctor --json`",
		r.Lost, r.Lost+r.Whole, r.TimedOut, r.Direction, r.Sender, r.Bytes, r.Delay, r.ReaderDelay, r.Procs, r.Path)
}

// Run runs the rounds of a cell. The error is a Loss if ours has lost anything with the
// drain, what made a run Invalid, or a receiver or sender that did not work.
func (b *Bench) Run(ctx context.Context, cell Cell, progress func(done, total int, what string)) ([]Row, error) {
	plan := b.conf.Plan
	plan.Progress = progress
	var results rounds.Results[result]
	round := make(map[string]int)
	err := results.Run(ctx, plan, b.conf.Receivers, func(ctx context.Context, name string) (result, error) {
		t := b.conf.turn(cell, name, round[name])
		round[name]++
		res, err := b.turn(t)
		if err == nil {
			err = res.account(name)
		}
		if err != nil && ctx.Err() == nil {
			// Both processes are in step with this one, or of no more use.
			return res, &rounds.Invalid{Err: fmt.Errorf("%s to %s: %w", t.Direction, name, err)}
		}
		return res, err
	})
	list := rows(&b.conf, cell, &results)
	for _, row := range list {
		if row.Drain == "on" && (row.Lost > 0 || row.TimedOut > 0) {
			err = errors.Join(err, &Loss{row})
		}
	}
	return list, err
}

// turn has one receiver take the messages of a round.
func (b *Bench) turn(t turn) (res result, err error) {
	res.requests = t.Count
	var from sent
	if t.Direction == Upload {
		from, err = b.upload(t, &res.outcome)
	} else {
		from, err = b.download(t, &res.outcome)
	}
	if err != nil {
		return res, err
	}
	if res.Error != "" {
		return res, errors.New(res.Error)
	}
	if res.sent = from.Sent; from.Sent == unknown {
		res.sent = t.Count - res.Unsent
	}
	if res.sent == 0 {
		return res, fmt.Errorf("nothing was sent: %s", from.Error)
	}
	return res, nil
}

func (b *Bench) upload(t turn, res *outcome) (from sent, err error) {
	var at listening
	if err := ask(b.receiver, order{Op: opServe, Turn: t}, &at); err != nil {
		return from, fmt.Errorf("receiver: %w", err)
	}
	if at.Error != "" {
		return from, fmt.Errorf("receiver: %s", at.Error)
	}
	if err := ask(b.sender, order{Op: opUpload, Turn: t, Addr: at.Addr}, &from); err != nil {
		return from, fmt.Errorf("sender: %w", err)
	}
	if err := ask(b.receiver, order{Op: opEnd, Sent: from.Sent}, res); err != nil {
		return from, fmt.Errorf("receiver: %w", err)
	}
	return from, nil
}

func (b *Bench) download(t turn, res *outcome) (from sent, err error) {
	var at listening
	if err := ask(b.sender, order{Op: opListen, Turn: t}, &at); err != nil {
		return from, fmt.Errorf("sender: %w", err)
	}
	if at.Error != "" {
		return from, fmt.Errorf("sender: %s", at.Error)
	}
	if err := ask(b.receiver, order{Op: opFetch, Turn: t, Addr: at.Addr}, res); err != nil {
		return from, fmt.Errorf("receiver: %w", err)
	}
	if err := ask(b.sender, order{Op: opStop}, &from); err != nil {
		return from, fmt.Errorf("sender: %w", err)
	}
	return from, nil
}

func ask(p *proc.Process, o order, v any) error {
	line, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return p.Ask(string(line), v)
}

// calibration is how many messages show what one takes.
const calibration = 40

// Expected is about how long all cells take, from a few messages each way.
func (b *Bench) Expected() (time.Duration, error) {
	var total time.Duration
	each := make(map[string]time.Duration)
	for _, cell := range b.conf.Cells() {
		key := cell.Direction + cell.Sender
		if each[key] == 0 {
			small := cell
			small.Size, small.Delay, small.ReaderDelay = 1000, 0, 0
			t := b.conf.turn(small, b.conf.Receivers[0], 0)
			t.First, t.Count = 0, calibration
			var began time.Time
			for range 2 { // the first warms up
				began = time.Now()
				if _, err := b.turn(t); err != nil {
					return 0, err
				}
			}
			each[key] = max(1, time.Since(began)/calibration)
		}
		one := each[key] + cell.Delay/2
		round := turnOverhead + cell.ReaderDelay
		if cell.Direction == Download {
			one += cell.ReaderDelay / time.Duration(b.conf.workers(cell))
		}
		// Sealing and decoding a large body costs about as much as a connection.
		one += each[key] * time.Duration(cell.Size) / largeBody
		total += time.Duration(len(b.conf.Receivers)) * (time.Duration(b.conf.Iterations)*one + time.Duration(b.conf.Rounds)*round)
	}
	return total, nil
}

const (
	turnOverhead = 30 * time.Millisecond // to set a receiver up, and to wait for what is lost
	largeBody    = 200_000
)
