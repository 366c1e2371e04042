package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"
)

// inject makes the faults of the schedule, each at its time.
func (r *run) inject(ctx, children context.Context) {
	rng := rand.New(rand.NewPCG(r.Seed, 1)) //nolint:gosec // what is random in a fault, which can be had again
	for i := range r.row.Schedule {
		e := &r.row.Schedule[i]
		timer := time.NewTimer(time.Until(r.begin.Add(seconds(e.At))))
		select {
		case <-ctx.Done():
			timer.Stop()
			r.row.Schedule = r.row.Schedule[:i] // the rest was not made
			return
		case <-timer.C:
		}
		text := e.String()
		r.fault.Store(&text)
		if err := r.make(ctx, children, *e, rng); err != nil && ctx.Err() == nil {
			e.Error = err.Error()
		}
		r.fault.Store(nil)
		if r.now().gone() {
			r.row.Schedule = r.row.Schedule[:i+1]
			return
		}
		if e.Kind == Takeover {
			r.row.Takeovers++
		} else {
			r.row.Faults++
		}
	}
}

// make makes one fault, and has the clients know of it while it lasts.
func (r *run) make(ctx, children context.Context, e Event, rng *rand.Rand) error {
	if _, err := r.load.tell(wordOn + " " + string(e.Kind)); err != nil {
		return err
	}
	if e.Kind == Takeover { // which lasts until the other has ended
		return r.takeOver(children)
	}
	err := r.disturb(ctx, e, rng)
	_, off := r.load.tell(wordOff + " " + string(e.Kind))
	return errors.Join(err, off)
}

func (r *run) disturb(ctx context.Context, e Event, rng *rand.Rand) error {
	server := r.now()
	switch e.Kind {
	case Stop:
		return server.hold(seconds(e.For))
	case Garbage:
		return garbage(ctx, r.lab.Sender, r.addr(), int(e.Much), rng)
	case Initials:
		return initials(ctx, r.lab.Sender, r.addr(), int(e.Much), rng)
	case Reload:
		cert, err := r.newCert()
		if err != nil {
			return err
		}
		if err := errors.Join(r.home.renew(cert), r.home.configure(rng.IntN(100))); err != nil {
			return err
		}
		return server.signal(syscall.SIGHUP)
	case BadFile:
		if err := r.home.misconfigure(); err != nil {
			return err
		}
		if err := server.signal(syscall.SIGHUP); err != nil {
			return err
		}
		// Read by then, for a take-over needs one that is good.
		time.Sleep(time.Second)
		return r.home.configure(rng.IntN(100))
	case Rebind:
		return r.lab.Rebind(e.rebinding())
	}
	bad := e.shape()
	if err := r.lab.Shape(bad, bad); err != nil {
		return err
	}
	select {
	case <-time.After(seconds(e.For)):
	case <-ctx.Done():
	}
	return r.lab.Shape(calm, calm)
}

// takeOver has a new server take the address, and the old one finish what it has begun.
func (r *run) takeOver(children context.Context) error {
	old := r.now()
	next, err := r.home.start(children, old.number+1, old.ready.listen)
	if err != nil {
		r.crash(fmt.Errorf("take-over: %w", err))
		return err
	}
	r.mu.Lock()
	r.server = next
	r.mu.Unlock()
	r.over.Go(func() {
		if err := old.await(exitTimeout); err != nil {
			r.crash(err)
		}
		if n := old.log.panicked(); n > 0 {
			r.crash(fmt.Errorf("serve %d: %d panics\n%s", old.number, n, old.log.tail()))
		}
		_, _ = r.load.tell(wordOff + " " + string(Takeover))
	})
	return nil
}
