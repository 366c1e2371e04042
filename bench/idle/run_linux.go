package idle

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/tailfin-quic/tailfin/bench/netlab"
	"github.com/tailfin-quic/tailfin/bench/proc"
	"github.com/tailfin-quic/tailfin/bench/rounds"
)

// The roles of this bench's processes.
const (
	roleReceiver = "idle-receiver"
	roleSender   = "idle-sender"
)

// Roles are what a program that calls Run must give to proc.Child. Receivers show a
// certificate that newCert makes, which senders trust whatever it says.
func Roles(newCert func() (tls.Certificate, error)) map[string]proc.Role {
	return map[string]proc.Role{
		roleReceiver: proc.RoleOf(func(c receiverConfig, in io.Reader, out io.Writer) error { return receive(c, newCert, in, out) }),
		roleSender:   proc.RoleOf(func(c senderConfig, in io.Reader, out io.Writer) error { return send(context.Background(), c, in, out) }),
	}
}

// Run measures all receivers. The error is for what ends the whole: a bad Config, a
// path that is not to be had, a context that is done, or connections that did not live
// until the end of their turn.
func Run(ctx context.Context, c Config) (_ []Row, err error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if c.Pin && runtime.NumCPU() < 2 {
		return nil, errors.New("pinning needs two processors; measure unpinned")
	}
	lab, err := netlab.Open(ctx, c.path())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	var results rounds.Results[result]
	err = results.Run(ctx, c.Plan, c.Receivers, func(ctx context.Context, name string) (result, error) {
		return c.once(ctx, lab, name)
	})
	return rows(&c, &results), err
}

const (
	// warmConns are there before the others, and stay: what a process makes but once,
	// and what grows a little at first, is not counted for the others.
	warmConns = 64
	// settle is how long connections are left alone before they count as idle: what
	// follows a handshake is over then.
	settle = 500 * time.Millisecond
	// maxPerConn bounds a turn, by connection.
	maxPerConn = 50 * time.Millisecond
)

// A turn has the processes of one.
type turn struct {
	receiver, sender *proc.Process
}

// once is one turn.
func (c *Config) once(ctx context.Context, lab *netlab.Lab, name string) (res result, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute+c.Time+time.Duration(c.Conns)*maxPerConn)
	defer cancel() // which ends the processes that are left
	var t turn
	defer t.kill()
	if err := c.start(ctx, &t, lab, name); err != nil {
		return res, err
	}
	if err := t.dial(warmConns); err != nil {
		return res, err
	}
	time.Sleep(settle)
	before, err := t.ask(askMemory)
	if err != nil {
		return res, err
	}
	if err := t.dial(c.Conns); err != nil {
		return res, err
	}
	if _, err := t.ask(askMemory); err != nil { // so that the dead of the handshakes are not collected while we measure
		return res, err
	}
	time.Sleep(settle)
	begin, err := t.ask(askCPU)
	if err != nil {
		return res, err
	}
	select {
	case <-time.After(c.Time):
	case <-ctx.Done():
		return res, context.Cause(ctx)
	}
	end, err := t.ask(askCPU)
	if err != nil {
		return res, err
	}
	after, err := t.ask(askProfile)
	if err != nil {
		return res, err
	}
	if n := after.Conns - before.Conns; n != int64(c.Conns) {
		return res, &rounds.Invalid{Err: fmt.Errorf("%s has accepted %d connections, of %d that were made", name, n, c.Conns)}
	}
	if err := t.say(askCheck); err != nil {
		return res, &rounds.Invalid{Err: fmt.Errorf("%s did not keep its idle connections: %w", name, err)}
	}
	each := func(after, before int64) float64 { return float64(after-before) / float64(c.Conns) }
	return result{
		heap: each(after.Heap, before.Heap), stacks: each(after.Stacks, before.Stacks), rss: each(after.RSS, before.RSS),
		goroutines: each(int64(after.Goroutines), int64(before.Goroutines)),
		cpu:        (end.CPU - begin.CPU) / (end.At - begin.At) / float64(c.Conns+warmConns) * 1e6,
	}, nil
}

// start starts the processes.
func (c *Config) start(ctx context.Context, t *turn, lab *netlab.Lab, name string) error {
	receiver, sender := proc.Places(c.Pin)
	receiver.Net, sender.Net = lab.Receiver.Net, lab.Sender.Net
	conf := receiverConfig{Receiver: name, Addr: lab.Receiver.Addr}
	if c.Profile != "" {
		conf.Profile = filepath.Join(c.Profile, fmt.Sprintf("idle-%d-%s.pprof", c.Conns, name))
	}
	var err error
	if t.receiver, err = proc.StartRole(ctx, roleReceiver, conf, receiver); err != nil {
		return err
	}
	var hello ready
	if err := t.receiver.Line(&hello); err != nil || hello.Error != "" {
		return errors.Join(err, errors.New(hello.Error))
	}
	t.sender, err = proc.StartRole(ctx, roleSender, senderConfig{Addr: hello.Addr, Local: lab.Sender.Addr, KeepAlive: c.KeepAlive}, sender)
	return err
}

// dial has the sender make n more connections.
func (t *turn) dial(n int) error { return t.say(strconv.Itoa(n)) }

// say has the sender do what a line says.
func (t *turn) say(line string) error {
	var report sentReport
	if err := t.sender.Ask(line, &report); err != nil {
		return fmt.Errorf("sender: %w", err)
	}
	if report.Error != "" {
		return fmt.Errorf("sender, of %d connections: %s", report.Conns, report.Error)
	}
	return nil
}

// ask asks the receiver for a snapshot.
func (t *turn) ask(line string) (snap snapshot, err error) {
	if err := t.receiver.Ask(line, &snap); err != nil {
		return snap, fmt.Errorf("receiver: %w", err)
	}
	if snap.Error != "" {
		return snap, errors.New(snap.Error)
	}
	return snap, nil
}

// kill ends the processes: thousands of connections are not worth a farewell.
func (t *turn) kill() {
	for _, p := range []*proc.Process{t.sender, t.receiver} {
		if p != nil {
			p.Kill()
		}
	}
}
