package netlab

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// Of the devices of a veth pair; locally administered (IEEE 802 §8.4).
var (
	receiverMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	senderMAC   = net.HardwareAddr{2, 0, 0, 0, 0, 2}
)

func build(ctx context.Context, p Profile) (*Lab, error) {
	return between(&p, func(lab *Lab) (err error) {
		if lab.Emulator, err = emulator(&p, &lab.Receiver); err != nil {
			return err
		}
		switch lab.Emulator {
		case Wire:
			return lab.joinWire(ctx, &p)
		case Netem:
			return lab.joinNetem(ctx, &p, netemQdisc)
		}
		return lab.joinVeth(ctx, &p)
	})
}

// between makes the namespaces of two hosts, and joins them.
func between(p *Profile, join func(*Lab) error) (*Lab, error) {
	lab := &Lab{
		Path:     p.Name,
		Receiver: Host{Addr: receiver4, Addr6: receiver6, Device: device},
		Sender:   Host{Addr: sender4, Addr6: sender6, Device: device},
	}
	var err error
	for _, h := range []*Host{&lab.Receiver, &lab.Sender} {
		if h.Net, err = newNamespace(); err != nil {
			return nil, errors.Join(err, lab.Close())
		}
	}
	if err := join(lab); err != nil {
		return nil, errors.Join(err, lab.Close())
	}
	return lab, nil
}

// emulator chooses one. The scratch host is not in use yet.
func emulator(p *Profile, scratch *Host) (string, error) {
	switch {
	case !p.impaired():
		return "", nil
	case p.Emulator == Wire, p.needsWire():
		return Wire, nil
	}
	missing := scratch.Do(tryNetem)
	switch {
	case missing == nil:
		return Netem, nil
	case p.Emulator == Netem || !errors.Is(missing, errNoNetem):
		return "", missing
	}
	return Wire, nil
}

// configure has both hosts bring their device up.
func (l *Lab) configure(ctx context.Context) error {
	for _, h := range []*Host{&l.Receiver, &l.Sender} {
		if err := h.Do(func() error { return h.bringUp(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

// meet has the hosts know each other over Ethernet, and waits until they can talk.
func (l *Lab) meet(ctx context.Context) error {
	if err := l.Receiver.Do(func() error { return l.Receiver.knows(&l.Sender, senderMAC) }); err != nil {
		return err
	}
	if err := l.Sender.Do(func() error { return l.Sender.knows(&l.Receiver, receiverMAC) }); err != nil {
		return err
	}
	for _, h := range []*Host{&l.Receiver, &l.Sender} {
		if err := h.Do(func() error { return waitUp(ctx, h.Device) }); err != nil {
			return err
		}
	}
	return nil
}

// counters of a link that has none but those of its ends' devices.
func (l *Lab) deviceStats() (Stats, error) {
	receiver, err := l.Receiver.counted()
	if err != nil {
		return Stats{}, err
	}
	sender, err := l.Sender.counted()
	if err != nil {
		return Stats{}, err
	}
	return Stats{
		Forward: Counters{Passed: receiver.RxPackets, Dropped: sender.TxDropped},
		Back:    Counters{Passed: sender.RxPackets, Dropped: receiver.TxDropped},
	}, nil
}

// noWire is a part of the links that have none.
type noWire struct{}

func (noWire) rebind(Rebinding) error { return errNoNAT }
func (noWire) interrupt(bool) error   { return errNoWire }
func (noWire) shape(shapes) error     { return errNoWire }

// withKernel adds to an error which option of the kernel is for what was tried.
func withKernel(err error, what, option string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s (needs a kernel with %s): %w", what, option, needs(err))
}
