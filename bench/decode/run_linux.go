package decode

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/tailfin-quic/tailfin/bench/proc"
	"github.com/tailfin-quic/tailfin/bench/rounds"
)

// roleReader is that of this bench's processes.
const roleReader = "decode-reader"

// readerConfig is what a process is told.
type readerConfig struct {
	Transcript string        `json:"transcript"`
	Seed       uint64        `json:"seed"`
	Reader     string        `json:"reader"`
	Time       time.Duration `json:"time"`
}

// askTurn asks a process for a turn.
const askTurn = "turn"

// Roles are what a program that calls Run must give to proc.Child.
func Roles() map[string]proc.Role {
	return map[string]proc.Role{roleReader: proc.RoleOf(read)}
}

// read makes a reader ready, says so on out, and then takes and reports a turn for each
// line that comes on in, until the line of the end.
func read(c readerConfig, in io.Reader, out io.Writer) error {
	enc := json.NewEncoder(out)
	report := func(r result, err error) error {
		if err != nil {
			r.Invalid = err.Error()
		}
		return enc.Encode(r)
	}
	t, err := newTranscript(c.Transcript, c.Seed)
	if err != nil {
		return report(result{}, err)
	}
	u, err := newTurner(c.Reader, t, c.Time)
	if err := report(result{}, err); err != nil || u == nil {
		return err
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		if lines.Text() != askTurn {
			return report(result{}, nil)
		}
		if err := report(u.turn(cpu)); err != nil {
			return err
		}
	}
	return nil
}

func cpu() float64 { return proc.Used().CPU }

// Run measures the readers of one transcript. The error is for what ends the whole: a
// bad Config, a context that is done, or a reader that decoded something else.
func Run(ctx context.Context, c Config) ([]Row, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	t, err := newTranscript(c.Transcript, c.Seed)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // which ends the processes that are left
	at, _ := proc.Places(c.Pin)
	names, results := Readers(c.Transcript), new(rounds.Results[result])
	processes := make(map[string]*proc.Process)
	turn := func(_ context.Context, name string) (res result, err error) {
		return res, believed(name, &res, processes[name].Ask(askTurn, &res))
	}
	for _, name := range names {
		var ready result
		p, err := proc.StartRole(ctx, roleReader, readerConfig{c.Transcript, c.Seed, name, c.Time}, at)
		if err == nil {
			defer p.Kill()
			processes[name] = p
			err = believed(name, &ready, p.Line(&ready))
		}
		if invalid := new(rounds.Invalid); errors.As(err, &invalid) {
			results.Spoil(name, err)
			rows, failed := c.rows(t, results)
			return rows, errors.Join(err, failed)
		} else if err != nil {
			results.Skip(name, err)
		}
	}
	plan := c.Plan
	if c.Progress != nil {
		plan.Progress = func(done, total int, what string) { c.Progress(done, total, c.Transcript+", "+what) }
	}
	err = results.Run(ctx, plan, names, turn)
	rows, failed := c.rows(t, results)
	return rows, errors.Join(err, failed)
}

// believed is the error of what a process reported, or of hearing it.
func believed(name string, r *result, err error) error {
	if err == nil && r.Invalid != "" {
		return &rounds.Invalid{Err: fmt.Errorf("%s: %s", name, r.Invalid)}
	}
	return err
}
