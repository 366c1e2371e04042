package uploads

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/tailfin-quic/tailfin/bench/netlab"
	"github.com/tailfin-quic/tailfin/bench/proc"
	"github.com/tailfin-quic/tailfin/bench/rounds"
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
		roleReceiver: proc.RoleOf(func(c receiverConfig, in io.Reader, out io.Writer) error {
			return receive(c, newCert, newHandler, in, out)
		}),
		roleSender: proc.RoleOf(func(c senderConfig, in io.Reader, out io.Writer) error { return send(context.Background(), c, in, out) }),
	}
}

// Run measures uploads. The error is for what ends the whole: a bad Config, a context
// that is done, or a receiver that did not store every upload.
func Run(ctx context.Context, c Config) ([]Row, error) {
	if c.Storage == "" {
		return nil, errors.New("uploads need a storage")
	}
	results, err := c.measure(ctx)
	return rows(&c, results), err
}

// Requests measures requests whose bodies and answers are next to nothing, and are
// not stored. The error is as of Run.
func Requests(ctx context.Context, c Config) ([]RequestRow, error) {
	if c.Storage != "" {
		return nil, fmt.Errorf("requests are not stored, but the storage is to be %q", c.Storage)
	}
	results, err := c.measure(ctx)
	return requestRows(&c, results), err
}

// measure has all receivers take their turns.
func (c *Config) measure(ctx context.Context) (*rounds.Results[sentReport], error) {
	results := new(rounds.Results[sentReport])
	if err := c.Check(); err != nil {
		return results, err
	}
	if c.Pin && runtime.NumCPU() < 2 {
		return results, errors.New("pinning needs two processors; measure unpinned")
	}
	lab, err := netlab.Open(ctx, c.Path)
	if err != nil {
		return results, err
	}
	defer func() { _ = lab.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // which ends the processes that are left
	pairs := map[string]*pair{}
	for _, name := range c.Receivers {
		p, err := c.start(ctx, lab, name)
		if err != nil {
			results.Skip(name, err)
			continue
		}
		defer p.kill()
		pairs[name] = p
	}
	plan := c.Plan
	if c.Progress != nil {
		plan.Progress = func(done, total int, what string) { c.Progress(done, total, c.what()+", "+what) }
	}
	err = results.Run(ctx, plan, c.Receivers, func(_ context.Context, name string) (sentReport, error) { return pairs[name].run() })
	if err != nil {
		return results, err
	}
	for name, p := range pairs {
		if results.Skipped[name] != "" {
			continue
		}
		if wrong := p.end(); wrong != nil {
			results.Spoil(name, wrong)
			err = errors.Join(err, wrong)
		}
	}
	return results, err
}

// A pair is a receiver, its sender, and the folder that the first has.
type pair struct {
	name     string
	files    bool // are to be counted
	dir      string
	receiver *proc.Process
	sender   *proc.Process
	answered int  // requests
	size     int  // of the body of each
	counts   bool // the receiver, their bytes
}

// start starts a pair and warms it up. Both live until ctx is done at the latest.
func (c *Config) start(ctx context.Context, lab *netlab.Lab, name string) (p *pair, err error) {
	p = &pair{name: name, files: c.Files, size: c.Size, counts: c.Storage == ""}
	defer func() {
		if err != nil {
			p.kill()
		}
	}()
	if p.dir, err = os.MkdirTemp(c.Dir, "tailfin-uploads-"); err != nil {
		return p, err
	}
	receiverAt, senderAt := proc.Places(c.Pin)
	receiverAt.Net, senderAt.Net = lab.Receiver.Net, lab.Sender.Net
	conf := receiverConfig{Receiver: name, Addr: lab.Receiver.Addr, Storage: c.Storage, Answer: c.Answer, Dir: p.dir, GOGC: c.gogc()}
	if c.Profile != "" {
		conf.Profile = filepath.Join(c.Profile, fmt.Sprintf("%s-%s-gogc%d.pprof", c.what(), name, conf.GOGC))
	}
	if p.receiver, err = proc.StartRole(ctx, roleReceiver, conf, receiverAt); err != nil {
		return p, err
	}
	var hello ready
	if err := p.receiver.Line(&hello); err != nil || hello.Error != "" {
		return p, errors.Join(err, errors.New(hello.Error))
	}
	sends := senderConfig{
		Addr: hello.Addr, Method: c.method(), Status: http.StatusCreated, Answer: anyAnswer,
		Conns: c.Conns, InFlight: c.InFlight, Size: c.Size, Time: c.Time,
	}
	if c.Storage == "" {
		sends.Status, sends.Answer = http.StatusOK, c.Answer
	}
	if p.sender, err = proc.StartRole(ctx, roleSender, sends, senderAt); err != nil {
		return p, err
	}
	var warmed sentReport
	return p, p.heard(&warmed, p.sender.Line(&warmed))
}

// run has the sender make one run.
func (p *pair) run() (sentReport, error) {
	var report sentReport
	err := p.sender.Ask(askRun, &report)
	return report, p.believed(&report, err)
}

// believed is heard, and holds what the receiver has counted against what was sent.
func (p *pair) believed(report *sentReport, err error) error {
	if err := p.heard(report, err); err != nil {
		return err
	}
	if used := report.Used; used.Requests != int64(report.Requests) || p.counts && used.Bytes != used.Requests*int64(p.size) {
		return &rounds.Invalid{Err: fmt.Errorf("%s received %d requests with %d bytes, of %d sent with %d bytes each",
			p.name, used.Requests, used.Bytes, report.Requests, p.size)}
	}
	return nil
}

// heard takes in what the sender has reported, if there was no err.
func (p *pair) heard(report *sentReport, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("sender: %w", err)
	case report.Wrong:
		return &rounds.Invalid{Err: fmt.Errorf("%s: %s", p.name, report.Error)}
	case report.Error != "":
		return fmt.Errorf("sender: %s", report.Error)
	case report.Requests == 0:
		return errors.New("no request was answered in time")
	}
	p.answered += report.Requests
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
