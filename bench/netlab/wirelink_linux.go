package netlab

import (
	"context"
	"errors"
	"os"
)

// joinWire puts a wire between the hosts.
func (l *Lab) joinWire(ctx context.Context, p *Profile) error {
	link := &wireLink{lab: l}
	l.link = link
	join := true
	for i, h := range []*Host{&l.Receiver, &l.Sender} {
		err := h.Do(func() error {
			tun, whole, err := newTUN(h.Device, p.mtu())
			link.tuns[i], join = tun, join && whole
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := l.configure(ctx); err != nil {
		return err
	}
	if !p.Process {
		w, err := startWire(p, join, int(link.tuns[0].Fd()), int(link.tuns[1].Fd()))
		if err != nil {
			return err
		}
		link.wire = w
		return nil
	}
	w, err := startWireProcess(ctx, wireConfig{*p, join}, link.tuns)
	if err != nil {
		return err
	}
	link.wire = w
	// The devices end with the process, and nothing is sent into the void.
	return link.closeTUNs()
}

// A wireLink is a TUN device of each host, with a wire in between.
type wireLink struct {
	lab  *Lab
	tuns [2]*os.File // of the receiver and the sender; nil where a process has them
	wire link
}

func (l *wireLink) stats() (Stats, error) {
	s, err := l.wire.stats()
	if err != nil {
		return s, err
	}
	devices, err := l.lab.deviceStats()
	s.Forward.Dropped, s.Back.Dropped = devices.Forward.Dropped, devices.Back.Dropped
	return s, err
}

func (l *wireLink) rebind(r Rebinding) error { return l.wire.rebind(r) }
func (l *wireLink) interrupt(on bool) error  { return l.wire.interrupt(on) }
func (l *wireLink) shape(to shapes) error    { return l.wire.shape(to) }

func (l *wireLink) close() error {
	var err error
	if l.wire != nil {
		err = l.wire.close()
	}
	return errors.Join(err, l.closeTUNs())
}

func (l *wireLink) closeTUNs() error {
	var err error
	for i, tun := range l.tuns {
		if tun != nil {
			err = errors.Join(err, tun.Close())
			l.tuns[i] = nil
		}
	}
	return err
}
