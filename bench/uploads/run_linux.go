package uploads

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/tailfin-quic/tailfin/bench/proc"
)

// The roles of this bench's processes.
const (
	roleReceiver = "uploads-receiver"
	roleSender   = "uploads-sender"
)

// Roles are what a program that calls Run must give to proc.Child. Receivers store by
// what newHandler makes and show a certificate that newCert makes, which senders trust
// whatever it says.
func Roles(newCert func() (tls.Certificate, error), newHandler NewHandler) map[string]proc.Role {
	return map[string]proc.Role{
		roleReceiver: func(config json.RawMessage, in io.Reader, out io.Writer) error {
			var c receiverConfig
			if err := json.Unmarshal(config, &c); err != nil {
				return err
			}
			return receive(c, newCert, newHandler, in, out)
		},
		roleSender: func(config json.RawMessage, in io.Reader, out io.Writer) error {
			var c senderConfig
			if err := json.Unmarshal(config, &c); err != nil {
				return err
			}
			return send(context.Background(), c, in, out)
		},
	}
}

// Run measures all receivers. The error is for what ends the whole: a bad Config, a
// context that is done, or a receiver that did not store every upload.
func Run(ctx context.Context, c Config) ([]Row, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if c.Pin && runtime.NumCPU() < 2 {
		return nil, errors.New("pinning needs two processors; measure unpinned")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // which ends the processes that are left
	runs, skipped := map[string][]sentReport{}, map[string]string{}
	pairs := map[string]*pair{}
	for _, name := range c.Receivers {
		p, err := c.start(ctx, name)
		if err != nil {
			skipped[name] = err.Error()
			continue
		}
		defer p.kill()
		pairs[name] = p
	}
	rng := rand.New(rand.NewPCG(c.Seed, 0)) //nolint:gosec // an order, and one that can be had again
	done, total := 0, c.Pairs*len(c.Receivers)
	for range c.Pairs {
		order := slices.Clone(c.Receivers)
		rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, name := range order {
			if done++; c.Progress != nil {
				c.Progress(done, total, c.Storage+", "+name)
			}
			if skipped[name] != "" {
				continue
			}
			r, err := pairs[name].run()
			if ctx.Err() != nil {
				return rows(&c, runs, skipped), context.Cause(ctx)
			}
			if err != nil {
				skipped[name] = err.Error()
				continue
			}
			runs[name] = append(runs[name], r)
		}
	}
	var failed error
	for name, p := range pairs {
		if skipped[name] == "" {
			failed = errors.Join(failed, p.end())
		}
	}
	return rows(&c, runs, skipped), failed
}

// A pair is a receiver, its sender, and the folder that the first has.
type pair struct {
	name     string
	files    bool // are to be counted
	dir      string
	receiver *proc.Process
	sender   *proc.Process
	answered int // uploads
}

// start starts a pair and warms it up. Both live until ctx is done at the latest.
func (c *Config) start(ctx context.Context, name string) (p *pair, err error) {
	p = &pair{name: name, files: c.Files}
	defer func() {
		if err != nil {
			p.kill()
		}
	}()
	if p.dir, err = os.MkdirTemp(c.Dir, "tailfin-uploads-"); err != nil {
		return p, err
	}
	conf := receiverConfig{Receiver: name, Storage: c.Storage, Dir: p.dir, GOGC: c.gogc()}
	if c.Profile != "" {
		conf.Profile = filepath.Join(c.Profile, fmt.Sprintf("%s-%s-gogc%d.pprof", c.Storage, name, conf.GOGC))
	}
	receiver, sender := proc.Places(c.Pin)
	if p.receiver, err = startProcess(ctx, roleReceiver, conf, receiver); err != nil {
		return p, err
	}
	var hello ready
	if err := p.receiver.Line(&hello); err != nil || hello.Error != "" {
		return p, errors.Join(err, errors.New(hello.Error))
	}
	sends := senderConfig{Addr: hello.Addr, Conns: c.Conns, InFlight: c.InFlight, Size: c.Size, Time: c.Time}
	if p.sender, err = startProcess(ctx, roleSender, sends, sender); err != nil {
		return p, err
	}
	var warmed sentReport
	return p, p.heard(&warmed, p.sender.Line(&warmed))
}

func startProcess(ctx context.Context, role string, config any, at proc.Place) (*proc.Process, error) {
	cmd, err := proc.Command(ctx, role, config)
	if err != nil {
		return nil, err
	}
	return proc.Start(cmd, at)
}

// run has the sender make one run.
func (p *pair) run() (sentReport, error) {
	var report sentReport
	err := p.heard(&report, p.sender.Ask(askRun, &report))
	return report, err
}

// heard takes in what the sender has reported, if there was no err.
func (p *pair) heard(report *sentReport, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("sender: %w", err)
	case report.Error != "":
		return fmt.Errorf("sender: %s", report.Error)
	case report.Uploads == 0:
		return errors.New("no upload was answered in time")
	}
	p.answered += report.Uploads
	return nil
}

// end ends both, and counts what was stored.
func (p *pair) end() error {
	sender, receiver := p.sender, p.receiver
	p.sender, p.receiver = nil, nil
	if err := errors.Join(sender.End(new(sentReport)), receiver.End(new(ready))); err != nil || !p.files {
		return err
	}
	return counted(p.name, p.dir, p.answered)
}

// kill ends what is left of the pair.
func (p *pair) kill() {
	for _, process := range []*proc.Process{p.sender, p.receiver} {
		if process != nil {
			process.Kill()
		}
	}
	if p.dir != "" {
		_ = os.RemoveAll(p.dir)
	}
}

// counted holds what was answered against the files that are there.
func counted(name, dir string, answered int) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	stored := 0
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			stored++
		}
	}
	if stored != answered {
		return fmt.Errorf("%s answered %d uploads and stored %d", name, answered, stored)
	}
	return nil
}
