package netlab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/tailfin-quic/tailfin/bench/proc"
)

const roleWire = "netlab-wire"

// Roles are what a program that calls Open, or Build with Profile.Process, must give to
// proc.Child.
func Roles() map[string]proc.Role { return map[string]proc.Role{roleWire: proc.RoleOf(wireRole)} }

// The files of a wire's process, as it is given them.
const (
	receiverFile = 3
	senderFile   = 4
)

// What a wire's process is told, a word a line, and an argument. It answers each.
const (
	wordStats     = "stats"
	wordRebind    = "rebind"
	wordShape     = "shape"
	wordInterrupt = "interrupt"
	wordEnd       = "end" // as proc.Process has it
)

// answer is what the process says when it is ready, and to each line.
type answer struct {
	Stats Stats  `json:"stats"`
	Error string `json:"error,omitempty"`
}

func answerOf(s Stats, err error) answer {
	a := answer{Stats: s}
	if err != nil {
		a.Error = err.Error()
	}
	return a
}

func (a *answer) err() error {
	if a.Error == "" {
		return nil
	}
	return errors.New(a.Error)
}

// wireConfig is what a wire's process is given, besides the files.
type wireConfig struct {
	Profile Profile `json:"profile"`
	Join    bool    `json:"join"`
}

// wireRole is a wire's process. It ends when it is told, and when its parent is gone.
func wireRole(c wireConfig, in io.Reader, out io.Writer) error {
	say := json.NewEncoder(out)
	w, err := startWire(&c.Profile, c.Join, receiverFile, senderFile)
	if err := errors.Join(err, say.Encode(answerOf(Stats{}, err))); err != nil {
		return err
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		word, argument, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case wordStats:
			s, failed := w.stats()
			s.CPU = proc.Used().CPU
			err = say.Encode(answerOf(s, failed))
		case wordRebind:
			err = say.Encode(answerOf(Stats{}, w.rebind(Rebinding(argument))))
		case wordShape:
			var to shapes
			failed := json.Unmarshal([]byte(argument), &to)
			if failed == nil {
				failed = w.shape(to)
			}
			err = say.Encode(answerOf(Stats{}, failed))
		case wordInterrupt:
			on, failed := strconv.ParseBool(argument)
			if failed == nil {
				failed = w.interrupt(on)
			}
			err = say.Encode(answerOf(Stats{}, failed))
		case wordEnd:
			err = w.close()
			return say.Encode(answerOf(Stats{}, err))
		}
		if err != nil {
			return err
		}
	}
	return w.close()
}

// A wireProcess is a wire in a process of its own.
type wireProcess struct {
	mu      sync.Mutex // one asks at a time
	process *proc.Process
}

func startWireProcess(ctx context.Context, c wireConfig, tuns [2]*os.File) (*wireProcess, error) {
	cmd, err := proc.Command(context.WithoutCancel(ctx), roleWire, c) // until close
	if err != nil {
		return nil, err
	}
	cmd.ExtraFiles = tuns[:]
	process, err := proc.Start(cmd, proc.Anywhere)
	if err != nil {
		return nil, err
	}
	var a answer
	if err := errors.Join(process.Line(&a), a.err()); err != nil {
		process.Kill()
		return nil, err
	}
	return &wireProcess{process: process}, nil
}

func (w *wireProcess) ask(line string) (Stats, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var a answer
	if err := w.process.Ask(line, &a); err != nil {
		return Stats{}, err
	}
	return a.Stats, a.err()
}

func (w *wireProcess) stats() (Stats, error) { return w.ask(wordStats) }

func (w *wireProcess) rebind(r Rebinding) error {
	_, err := w.ask(wordRebind + " " + string(r))
	return err
}

func (w *wireProcess) interrupt(on bool) error {
	_, err := w.ask(wordInterrupt + " " + strconv.FormatBool(on))
	return err
}

func (w *wireProcess) shape(to shapes) error {
	text, err := json.Marshal(to)
	if err != nil {
		return err
	}
	_, err = w.ask(wordShape + " " + string(text))
	return err
}

func (w *wireProcess) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var a answer
	if err := w.process.End(&a); err != nil {
		return err
	}
	return a.err()
}
