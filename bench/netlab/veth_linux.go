package netlab

import (
	"context"
	"net"
	"os"

	"github.com/vishvananda/netlink"
)

// newPair makes a veth pair, one end in the namespace of this thread and the other in
// that of peer: no other namespace ever has either.
func newPair(name string, mac net.HardwareAddr, peer *os.File, peerName string, peerMAC net.HardwareAddr, mtu int) error {
	veth := netlink.NewVeth(netlink.NewLinkAttrs())
	veth.Name, veth.HardwareAddr, veth.MTU = name, mac, mtu
	veth.PeerName, veth.PeerHardwareAddr, veth.PeerMTU = peerName, peerMAC, uint32(mtu)
	veth.PeerNamespace = netlink.NsFd(peer.Fd())
	return withKernel(netlink.LinkAdd(veth), "add a veth pair", "CONFIG_VETH")
}

// joinVeth puts a veth pair between the hosts.
func (l *Lab) joinVeth(ctx context.Context, p *Profile) error {
	l.link = &vethLink{lab: l}
	err := l.Receiver.Do(func() error {
		return newPair(device, receiverMAC, l.Sender.Net, device, senderMAC, p.mtu())
	})
	if err != nil {
		return err
	}
	if p.Cut {
		// Both ends, so that answers are treated as what they answer. None may send
		// trains before both join: see joining.
		for _, features := range []map[string]bool{cutting, joining} {
			for _, h := range []*Host{&l.Receiver, &l.Sender} {
				if err := h.Do(func() error { return offload(h.Device, features) }); err != nil {
					return err
				}
			}
		}
	}
	if err := l.configure(ctx); err != nil {
		return err
	}
	return l.meet(ctx)
}

// A vethLink ends with the namespaces of its hosts.
type vethLink struct {
	noWire
	lab *Lab
}

func (v *vethLink) stats() (Stats, error) { return v.lab.deviceStats() }

// close takes an end away, and with it the other: sockets may keep the namespaces.
func (v *vethLink) close() error {
	return v.lab.Receiver.Do(func() error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return nil //nolint:nilerr // it was never made
		}
		return netlink.LinkDel(link)
	})
}
