package netlab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var errNoNetem = errors.New("netem needs a kernel with CONFIG_NET_SCH_NETEM and CONFIG_BRIDGE (modprobe sch_netem bridge)")

// tryNetem says whether the kernel has what joinNetem needs, by a try in the thread's
// namespace, which is not in use yet.
func tryNetem() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	qdisc := netlink.NewNetem(root(lo), netlink.NetemQdiscAttrs{})
	if err := missing(netlink.QdiscAdd(qdisc)); err != nil {
		return fmt.Errorf("netem: %w", err)
	}
	if err := netlink.QdiscDel(qdisc); err != nil {
		return fmt.Errorf("netem: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridge
	br := &netlink.Bridge{LinkAttrs: attrs}
	if err := missing(netlink.LinkAdd(br)); err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	return netlink.LinkDel(br)
}

// missing has an error that says that the kernel knows no such thing be errNoNetem.
func missing(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%w: %w", errNoNetem, err)
	}
	return needs(err)
}

func root(link netlink.Link) netlink.QdiscAttrs {
	return netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}
}

// netemQdisc is a direction as netem has it.
func netemQdisc(at netlink.QdiscAttrs, d Direction, mtu int) netlink.Qdisc {
	const percent = 100
	under := float64(d.Rate) / 8 * d.Delay.Seconds()
	return netlink.NewNetem(at, netlink.NetemQdiscAttrs{
		Latency:   uint32(d.Delay / time.Microsecond),
		Loss:      float32(d.Loss * percent),
		Duplicate: float32(d.Duplicate * percent),
		Rate64:    uint64(d.Rate / 8),
		// Packets, of those that wait and those that are under way. Where no rate
		// says how many that can be, as many as a wire holds.
		Limit: netemLimit(d, under, mtu),
	})
}

func netemLimit(d Direction, under float64, mtu int) uint32 {
	if d.Rate == 0 {
		return maxUnderWay
	}
	const least = 1000 // netem's own default
	return max(least, uint32((float64(d.queue())+under)/float64(mtu)))
}

// A qdiscOf makes a qdisc of a direction.
type qdiscOf func(at netlink.QdiscAttrs, d Direction, mtu int) netlink.Qdisc

// The ends in the namespace between the hosts: what is sent out by one goes to that host.
const (
	toReceiver = "receiver"
	toSender   = "sender"
	bridge     = "bridge"
)

// joinNetem puts a bridge between the hosts, in a namespace of its own, that has a qdisc
// on either end. A qdisc of the sender's own device would not do: it is given trains,
// and loses them whole.
func (l *Lab) joinNetem(ctx context.Context, p *Profile, qdisc qdiscOf) error {
	middle, err := newNamespace()
	if err != nil {
		return err
	}
	n := &netemLink{lab: l, middle: Host{Net: middle}}
	l.link = n
	err = n.middle.Do(func() error {
		err := newPair(toReceiver, nil, l.Receiver.Net, device, receiverMAC, p.mtu())
		if err != nil {
			return err
		}
		return newPair(toSender, nil, l.Sender.Net, device, senderMAC, p.mtu())
	})
	if err != nil {
		return err
	}
	for _, h := range []*Host{&l.Receiver, &l.Sender} {
		err := h.Do(func() error { return errors.Join(offload(h.Device, cutting), offload(h.Device, joining)) })
		if err != nil {
			return err
		}
	}
	if err := n.middle.Do(func() error { return setBridge(p, qdisc) }); err != nil {
		return err
	}
	if err := l.configure(ctx); err != nil {
		return err
	}
	for _, end := range []string{toReceiver, toSender, bridge} {
		if err := n.middle.Do(func() error { return waitUp(ctx, end) }); err != nil {
			return err
		}
	}
	return l.meet(ctx)
}

// setBridge joins the ends of the thread's namespace.
func setBridge(p *Profile, qdisc qdiscOf) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = bridge, p.mtu()
	br := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(br); err != nil {
		return withKernel(err, "add a bridge", "CONFIG_BRIDGE")
	}
	for end, d := range map[string]Direction{toReceiver: p.Forward, toSender: p.Back} {
		// A host joins only if what it is sent comes from a device that takes no trains.
		if err := offload(end, cutting); err != nil {
			return err
		}
		link, err := netlink.LinkByName(end)
		if err != nil {
			return err
		}
		if err := netlink.QdiscAdd(qdisc(root(link), d, p.mtu())); err != nil {
			return fmt.Errorf("qdisc: %w", needs(err))
		}
		if err := netlink.LinkSetMaster(link, br); err != nil {
			return fmt.Errorf("bridge: %w", needs(err))
		}
		if err := netlink.LinkSetIP6AddrGenMode(link, ip6AddrGenNone); err != nil && allowIPv6() {
			return fmt.Errorf("IPv6 of %s: %w", end, err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return needs(err)
		}
	}
	if err := netlink.LinkSetIP6AddrGenMode(br, ip6AddrGenNone); err != nil && allowIPv6() {
		return fmt.Errorf("IPv6 of %s: %w", bridge, err)
	}
	return netlink.LinkSetUp(br)
}

// A netemLink is a bridge with qdiscs.
type netemLink struct {
	noWire
	lab    *Lab
	middle Host
}

func (n *netemLink) stats() (Stats, error) {
	s, err := n.lab.deviceStats()
	if err != nil {
		return s, err
	}
	return s, n.middle.Do(func() error {
		for end, c := range map[string]*Counters{toReceiver: &s.Forward, toSender: &s.Back} {
			link, err := netlink.LinkByName(end)
			if err != nil {
				return err
			}
			qdiscs, err := netlink.QdiscList(link)
			if err != nil {
				return err
			}
			for _, q := range qdiscs {
				if q.Attrs().Parent == netlink.HANDLE_ROOT && q.Attrs().Statistics != nil && q.Attrs().Statistics.Queue != nil {
					c.Lost = uint64(q.Attrs().Statistics.Queue.Drops)
				}
			}
			if counted := link.Attrs().Statistics; counted != nil {
				c.Dropped += counted.TxDropped - min(counted.TxDropped, c.Lost)
			}
		}
		return nil
	})
}

func (n *netemLink) close() error {
	err := n.middle.Do(func() error {
		for _, end := range []string{toReceiver, toSender} {
			if link, err := netlink.LinkByName(end); err == nil {
				if err := netlink.LinkDel(link); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if closed := n.middle.Net.Close(); !errors.Is(closed, os.ErrClosed) {
		err = errors.Join(err, closed)
	}
	return err
}
