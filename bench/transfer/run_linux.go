package transfer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/tailfin-quic/tailfin/bench/netlab"
	"github.com/tailfin-quic/tailfin/bench/proc"
	"github.com/tailfin-quic/tailfin/bench/rounds"
)

// The roles of this bench's processes.
const (
	roleServer  = "transfer-server"
	roleSender  = "transfer-sender"
	roleGetter  = "transfer-getter"
	roleSpinner = "transfer-spinner"
)

// Roles are what a program that calls Run must give to proc.Child. Servers show a
// certificate that newCert makes, which clients trust whatever it says.
func Roles(newCert func() (tls.Certificate, error)) map[string]proc.Role {
	return map[string]proc.Role{
		roleServer: proc.RoleOf(func(c serverConfig, in io.Reader, out io.Writer) error { return runServer(c, newCert, in, out) }),
		roleSender: proc.RoleOf(func(c senderConfig, in io.Reader, out io.Writer) error {
			return runSender(context.Background(), c, in, out)
		}),
		roleGetter: proc.RoleOf(func(c getterConfig, in io.Reader, out io.Writer) error {
			return runGetter(context.Background(), c, in, out)
		}),
		roleSpinner: proc.RoleOf(func(_ struct{}, in io.Reader, out io.Writer) error { return runSpinner(in, out) }),
	}
}

// Run measures all receivers. Foreign programs show the certificate of newCert too. The
// error is for what ends the whole: a bad Config, a path that is not to be had, a
// context that is done, or a turn in which not every byte arrived.
func Run(ctx context.Context, c Config) (_ []Row, err error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if c.Pin && runtime.NumCPU() < 2 {
		return nil, errors.New("pinning needs two processors; measure unpinned")
	}
	lab, err := netlab.Open(ctx, c.Path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	names, all := c.contestants()
	var results rounds.Results[result]
	err = results.Run(ctx, c.Plan, names, func(ctx context.Context, name string) (result, error) {
		return c.once(ctx, lab, all[name])
	})
	return rows(&c, &results), err
}

// slowest is the goodput below which a turn is given up, in bytes a second.
const slowest = 1e6

// once is one turn.
func (c *Config) once(ctx context.Context, lab *netlab.Lab, one contestant) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute+c.Time+time.Duration(float64(c.Bytes)/slowest*float64(time.Second)))
	defer cancel()
	t := &turn{Config: c, contestant: one, ctx: ctx}
	defer t.kill()
	t.at.receiver, t.at.sender = proc.Places(c.Pin)
	t.at.receiver.Net, t.at.sender.Net = lab.Receiver.Net, lab.Sender.Net
	t.lab = lab
	var res result
	var err error
	switch {
	case c.Sender == IPerf3:
		res, err = t.iperf3()
	case c.Direction == Download:
		res, err = t.download()
	default:
		res, err = t.upload()
	}
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case err == nil && (res.Bytes == 0 || res.Seconds <= 0 || res.sender.Seconds <= 0):
		err = fmt.Errorf("%d bytes in %g s are nothing to measure", res.Bytes, res.Seconds)
	}
	return res, err
}

// A turn has what one turn needs. Its processes end with it.
type turn struct {
	*Config
	contestant
	ctx context.Context //nolint:containedctx // of this turn
	lab *netlab.Lab
	at  struct{ receiver, sender proc.Place }

	processes []*proc.Process
	dirs      []string
}

// start starts a process in a role.
func (t *turn) start(role string, config any, at proc.Place) (*proc.Process, error) {
	p, err := proc.StartRole(t.ctx, role, config, at)
	if err == nil {
		t.processes = append(t.processes, p)
	}
	return p, err
}

func (t *turn) kill() {
	for _, p := range t.processes {
		p.Kill()
	}
	for _, dir := range t.dirs {
		_ = os.RemoveAll(dir)
	}
}

// startServer starts a process with a server.
func (t *turn) startServer(c serverConfig, at proc.Place) (*proc.Process, string, error) {
	p, err := t.start(roleServer, c, at)
	if err != nil {
		return nil, "", err
	}
	var hello ready
	if err := p.Line(&hello); err != nil {
		return nil, "", err
	}
	if hello.Error != "" {
		return nil, "", errors.New(hello.Error)
	}
	return p, hello.Addr, nil
}

// ask asks a process that answers with a sentReport.
func ask(p *proc.Process, line string) (report sentReport, err error) {
	if err := p.Ask(line, &report); err != nil {
		return report, err
	}
	if report.Error != "" {
		return report, errors.New(report.Error)
	}
	return report, nil
}

// askReceived asks a process that answers with a received.
func askReceived(p *proc.Process, line string) (r received, err error) {
	if err := p.Ask(line, &r); err != nil {
		return r, err
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	return r, nil
}

// An uploader sends the bodies of a turn.
type uploader interface {
	warm() error
	run() (sentReport, error)
}

// A server is the receiver of a turn.
type server interface {
	begin() error
	done(sent sentReport) (received, error)
}

// upload is a turn in which a client sends.
func (t *turn) upload() (res result, err error) {
	receiver, addr, err := t.receive()
	if err != nil {
		return res, err
	}
	neighbours, err := t.startNeighbours()
	if err != nil {
		return res, err
	}
	from, err := t.send(addr)
	if err != nil {
		return res, err
	}
	if err := from.warm(); err != nil {
		return res, fmt.Errorf("warm up: %w", err)
	}
	before, err := neighbours.spun()
	if err != nil {
		return res, err
	}
	if err := receiver.begin(); err != nil {
		return res, err
	}
	if res.sender, err = from.run(); err != nil {
		return res, fmt.Errorf("sender: %w", err)
	}
	if res.received, err = receiver.done(res.sender); err != nil {
		return res, err
	}
	after, err := neighbours.spun()
	if err != nil {
		return res, err
	}
	if res.due = after - before; len(neighbours) > 0 && res.due <= 0 {
		return res, errors.New("the receiver's neighbours did not run; give more bytes")
	}
	return res, t.account(res)
}

// account holds what was received against what was sent.
func (t *turn) account(res result) error {
	if res.Bytes != res.sender.Bytes || res.Whole != res.sender.Bodies {
		return &rounds.Invalid{Err: fmt.Errorf("%s received %d bytes in %d whole bodies, of %d in %d sent",
			t.name(), res.Bytes, res.Whole, res.sender.Bytes, res.sender.Bodies)}
	}
	return nil
}

// receive starts the receiver of an upload.
func (t *turn) receive() (server, string, error) {
	if t.receiver == NGTCP2 {
		return t.startNGTCP2Receiver()
	}
	c := serverConfig{Server: t.receiver, Addr: t.lab.Receiver.Addr, Shards: t.shards, OpenWindows: t.neighbours() > 0, OwnSession: t.neighbours() > 0}
	if t.Profile != "" {
		c.Profile = filepath.Join(t.Profile, fmt.Sprintf("transfer-%s-%s-%d-%d.pprof", t.Kind, t.receiver, t.flows, t.shards))
	}
	p, addr, err := t.startServer(c, t.at.receiver)
	return &meterProcess{p}, addr, err
}

// send starts the sender of an upload.
func (t *turn) send(addr string) (uploader, error) {
	if t.Sender == NGTCP2 {
		return t.newNGTCP2Sender(addr)
	}
	p, err := t.start(roleSender, senderConfig{
		Addr: addr, Via: t.Sender, Kind: t.Kind, Bytes: t.each(t.flows), Flows: t.flows,
		Connection: t.Connection, BulkGbit: t.BulkGbit, Rate: t.Rate, Time: t.Time,
	}, t.at.sender)
	return &senderProcess{p}, err
}

// A meterProcess is a receiver of ours.
type meterProcess struct{ p *proc.Process }

func (m *meterProcess) begin() error {
	_, err := askReceived(m.p, askBegin)
	return err
}

func (m *meterProcess) done(sentReport) (received, error) { return askReceived(m.p, askDone) }

// A senderProcess is a sender of ours.
type senderProcess struct{ p *proc.Process }

func (s *senderProcess) warm() error {
	_, err := ask(s.p, askWarm)
	return err
}

func (s *senderProcess) run() (sentReport, error) { return ask(s.p, askRun) }
