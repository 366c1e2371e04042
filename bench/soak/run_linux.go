package soak

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tailfin-quic/tailfin/bench/netlab"
	"github.com/tailfin-quic/tailfin/bench/proc"
)

// A run is a soak under way.
type run struct {
	Config
	newCert func() (tls.Certificate, error)
	home    *home
	lab     *netlab.Lab
	load    *clientProcess
	row     Row
	begin   time.Time // of the load
	fault   atomic.Pointer[string]

	mu      sync.Mutex
	server  *server // that takes new connections
	crashes []string
	over    sync.WaitGroup // those that it has taken over from

	series series
	last   sample // before, for what is a difference
	lastAt time.Time
	lastGo uint64 // packets that a wire has lost
}

// Run soaks. The servers show certificates that newCert makes. The error is an *Error if
// something was found, and another if the soak could not be made, or was interrupted; there
// is a row all the same, of what there was by then.
func Run(ctx context.Context, c Config, newCert func() (tls.Certificate, error)) (_ []Row, err error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	root, err := os.MkdirTemp(c.Dir, "tailfin-soak-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	r := &run{Config: c, newCert: newCert, row: Row{Scenario: "soak", Minutes: c.Time.Minutes(), Every: c.Every.Seconds()}}
	why := r.openLab(ctx)
	if r.lab == nil {
		return nil, why
	}
	defer func() { err = errors.Join(err, r.lab.Close()) }()
	r.row.Schedule = c.schedule(r.row.Path == PathWire)
	if c.Plan != nil {
		c.Plan(r.row.Path, why, r.row.Schedule)
	}
	err = r.soak(ctx, root)
	if r.begin.IsZero() {
		return nil, err
	}
	r.row.fill(&r.series)
	r.row.conclude()
	switch {
	case err != nil:
		r.row.Invalid = err.Error()
	case r.row.Result != Pass:
		err = &Error{r.row.Why}
	}
	return []Row{r.row}, err
}

// openLab takes the path that is wanted. The error says why there is none, or why it is the
// lesser one.
func (r *run) openLab(ctx context.Context) error {
	r.row.Path = PathWire
	var err error
	if r.Path != PathLoopback {
		r.lab, err = netlab.Build(ctx, netlab.Profile{
			Name: PathWire, Emulator: netlab.Wire, Process: true, Forward: calm, Back: calm, NAT: r.hasNAT(), Seed: r.Seed,
		})
	}
	if r.lab != nil || r.Path == PathWire || ctx.Err() != nil {
		return err
	}
	r.row.Path = PathLoopback
	r.lab, _ = netlab.Open(ctx, netlab.Loopback) // which has no error
	return err
}

// soak has the load run, with the faults, and waits for the base. Its error is for what is
// no finding.
func (r *run) soak(ctx context.Context, root string) error {
	cert, err := r.newCert()
	if err != nil {
		return err
	}
	if r.home, err = newHome(r.lab.Receiver, root, r.Backend, cert); err != nil {
		return err
	}
	// Children end in order, and not because ctx does; if all else fails with this function.
	children, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	if r.server, err = r.home.start(children, 0, ""); err != nil {
		return err
	}
	r.row.Reader = r.server.ready.backend
	before, err := r.server.sample(ctx)
	if err != nil {
		return err
	}
	r.load, err = startClients(children, loadConfig{Addr: r.server.ready.listen, Stored: r.home.stored, Root: root, Seed: r.Seed, Clients: r.Clients}, r.lab.Sender)
	if err != nil {
		return err
	}
	r.begin, r.lastAt = time.Now(), time.Now()
	faults, stop := context.WithTimeout(ctx, r.Time)
	injected := make(chan struct{})
	go func() { defer close(injected); r.inject(faults, children) }()
	err = r.sampleAll(ctx)
	stop()
	<-injected
	if r.now().gone() && ctx.Err() == nil {
		r.crash(fmt.Errorf("serve %d ended under load: %w\n%s", r.now().number, r.now().err, r.now().log.tail()))
	}
	r.end(ctx, before)
	return err
}

// end has the clients leave, waits for the base, and stops the server.
func (r *run) end(ctx context.Context, before sample) {
	now := r.now()
	last, err := r.load.tell(wordStop)
	if err != nil {
		r.crash(fmt.Errorf("clients: %w", err))
	}
	if !now.gone() {
		r.awaitBase(ctx, before, sum(last.Kinds).Orphans)
	}
	if swept, err := r.load.tell(wordSweep); err == nil {
		last = swept
	}
	if err := r.load.end(); err != nil {
		r.crash(fmt.Errorf("clients: %w", err))
	}
	if !now.gone() {
		_ = now.signal(syscall.SIGTERM)
		if err := now.await(exitTimeout); err != nil {
			r.crash(err)
		}
	}
	r.over.Wait()
	r.row.count(last)
	left, err := leftovers(r.home.stored)
	if err != nil {
		r.row.Troubles = append(r.row.Troubles, err.Error())
	}
	r.countLeft(left, sum(last.Kinds).Orphans)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.row.Crashed += int64(len(r.crashes)) + int64(now.log.panicked())
	r.row.Crashed += int64(r.series.most(fieldPanics))
	r.row.Troubles = append(r.row.Troubles, r.crashes...)
}

// countLeft counts files that are left. Parts that no client knows of may be, until they
// are too old.
func (r *run) countLeft(left []string, orphans int64) {
	for _, name := range left {
		if filepath.Dir(name) == ".uploads" && orphans > 0 {
			orphans--
			continue
		}
		if r.row.Leaked++; r.row.Leaked <= 10 {
			r.row.Troubles = append(r.row.Troubles, "left behind: "+name)
		}
	}
}

// baseTimeout is how long after the load all must be as it was before it, and baseEvery how
// often that is looked at.
const (
	baseTimeout = time.Minute
	baseEvery   = 500 * time.Millisecond
)

// awaitBase waits until the server holds no more than before.
func (r *run) awaitBase(ctx context.Context, before sample, orphans int64) {
	before[fieldPartials] += float64(orphans)
	ended := time.Now()
	for {
		after, err := r.now().sample(ctx)
		if err == nil {
			var back bool
			if r.row.Base, back = compare(before, after); back {
				r.row.BaseAfter = max(took(ended), 0.1)
				return
			}
		}
		if time.Since(ended) > baseTimeout || ctx.Err() != nil || r.now().gone() {
			return
		}
		time.Sleep(baseEvery)
	}
}

// now is the server that takes new connections.
func (r *run) now() *server {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.server
}

func (r *run) crash(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.crashes = append(r.crashes, err.Error())
}

// sampleAll samples until the time is over, or the server is.
func (r *run) sampleAll(ctx context.Context) error {
	over := time.NewTimer(r.Time + r.Every/2) // after the last one
	defer over.Stop()
	tick := time.NewTicker(r.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("interrupted after %v of %v", time.Since(r.begin).Round(time.Second), r.Time)
		case <-over.C:
			return nil
		case <-tick.C:
		}
		if r.now().gone() {
			return nil
		}
		one, load, err := r.sample(ctx)
		if err != nil {
			if r.load.gone() {
				return nil // end tells how
			}
			r.row.Missed++
			continue
		}
		if r.Progress != nil {
			r.Progress(int(time.Since(r.begin)/r.Every), int(r.Time/r.Every), line(one, sum(load.Kinds), r.under()))
		}
	}
}

// under is the fault that there is now.
func (r *run) under() string {
	if text := r.fault.Load(); text != nil {
		return *text
	}
	return ""
}

// sample takes one.
func (r *run) sample(ctx context.Context) (sample, loadReport, error) {
	server := r.now()
	one, err := server.sample(ctx)
	if err != nil {
		return nil, loadReport{}, err
	}
	load, err := r.load.tell(wordStats)
	if err != nil {
		return nil, load, err
	}
	clients, err := readProc(r.load.pid())
	if err != nil {
		return nil, load, err
	}
	one[fieldClientHeap], one[fieldClientGoroutines] = load.Heap, float64(load.Goroutines)
	one[fieldClientFDs], one[fieldClientRSS] = clients[fieldFDs], clients[fieldRSS]
	one[fieldRequests] = float64(sum(load.Kinds).Done)
	now := time.Now()
	since := now.Sub(r.lastAt)
	dropped := false
	if r.last == nil {
		one[fieldLoad] = one[fieldCPU] / since.Seconds()
	} else if len(r.series.process) > 0 && r.series.process[len(r.series.process)-1] == server.number {
		one[fieldLoad] = (one[fieldCPU] - r.last[fieldCPU]) / since.Seconds()
		dropped = one[fieldDrops] > r.last[fieldDrops]
	}
	if stats, err := r.lab.Stats(); err == nil {
		dropped = dropped || stats.Forward.Gone() > r.lastGo
		r.lastGo = stats.Forward.Gone()
	}
	if dropped {
		if _, err := r.load.tell(fmt.Sprintf("%s %.3f", wordDropped, since.Seconds())); err != nil {
			return nil, load, err
		}
	}
	r.last, r.lastAt = one, now
	r.series.add(now.Sub(r.begin).Seconds(), server.number, one)
	return one, load, nil
}

// A clientProcess is the process of the clients.
type clientProcess struct {
	process *proc.Process
	id      int
	mu      sync.Mutex // one tells at a time
	ended   error
}

// startClients starts them on a host.
func startClients(ctx context.Context, c loadConfig, host netlab.Host) (*clientProcess, error) {
	cmd, err := proc.Command(ctx, roleLoad, c)
	if err != nil {
		return nil, err
	}
	p, err := proc.Start(cmd, proc.Place{CPU: proc.AnyCPU, Net: host.Net})
	if err != nil {
		return nil, err
	}
	return &clientProcess{process: p, id: cmd.Process.Pid}, nil
}

func (p *clientProcess) pid() int { return p.id }

// tell tells it a word, with what it takes.
func (p *clientProcess) tell(word string) (loadReport, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var report loadReport
	if p.ended != nil {
		return report, p.ended
	}
	if p.ended = p.process.Ask(word, &report); p.ended != nil {
		return report, p.ended
	}
	if report.Error != "" {
		return report, errors.New(report.Error)
	}
	return report, nil
}

// gone tells whether it has ended, as far as we know.
func (p *clientProcess) gone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended != nil
}

// end has it end.
func (p *clientProcess) end() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var report loadReport
	if p.ended != nil {
		p.process.Kill()
		return p.ended
	}
	return p.process.End(&report)
}

// addr is where the servers receive.
func (r *run) addr() netip.AddrPort {
	at, _ := netip.ParseAddrPort(r.now().ready.listen)
	return at
}
