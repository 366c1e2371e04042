package netlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// device is what the interface of a host is called, in its namespace.
const device = "lab0"

// ip6AddrGenNone is IN6_ADDR_GEN_MODE_NONE of linux/if_link.h.
const ip6AddrGenNone = 1

// The functions here act on the namespace of the thread, as Host.Do has it.

// bringUp gives a host its addresses, and has its devices work. The host's Addr6 is
// emptied where there is no IPv6.
func (h *Host) bringUp(ctx context.Context) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return needs(err)
	}
	link, err := netlink.LinkByName(h.Device)
	if err != nil {
		return err
	}
	if h.Addr6.IsValid() && !allowIPv6() {
		h.Addr6 = netip.Addr{}
	}
	if h.Addr6.IsValid() {
		// No link-local address, and so no router solicitations: there are no routers.
		if err := netlink.LinkSetIP6AddrGenMode(link, ip6AddrGenNone); err != nil {
			return fmt.Errorf("IPv6 of %s: %w", h.Device, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return needs(err)
	}
	for addr, network := range map[netip.Addr]netip.Prefix{h.Addr: network4, h.Addr6: network6} {
		if !addr.IsValid() {
			continue
		}
		// Without the search for duplicates, which takes a second in which the
		// address cannot be used.
		a := &netlink.Addr{Flags: unix.IFA_F_NODAD, IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(network.Bits(), addr.BitLen())}}
		if err := netlink.AddrAdd(link, a); err != nil {
			return fmt.Errorf("address %s: %w", addr, needs(err))
		}
		if err := waitLocal(ctx, addr); err != nil {
			return err
		}
	}
	return nil
}

// allowIPv6 says whether there is IPv6; what is merely switched off is switched on.
func allowIPv6() bool {
	const off = "/proc/sys/net/ipv6/conf/all/disable_ipv6"
	text, err := os.ReadFile(off)
	if err == nil && text[0] != '0' {
		err = os.WriteFile(off, []byte("0"), 0)
	}
	return err == nil
}

// knows has a host know where the peer is, so that the first packets have no one to ask
// for.
func (h *Host) knows(peer *Host, at net.HardwareAddr) error {
	link, err := netlink.LinkByName(h.Device)
	if err != nil {
		return err
	}
	for _, addr := range []netip.Addr{peer.Addr, peer.Addr6} {
		if !addr.IsValid() {
			continue
		}
		n := &netlink.Neigh{LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: at}
		if err := netlink.NeighSet(n); err != nil {
			return fmt.Errorf("neighbour %s: %w", addr, needs(err))
		}
	}
	return nil
}

// waitUp waits until a device sends: what is sent to a veth before its carrier has been
// seen is dropped.
func waitUp(ctx context.Context, name string) error {
	return wait(ctx, name+" to come up", func() (bool, error) {
		link, err := netlink.LinkByName(name)
		return err == nil && link.Attrs().OperState == netlink.OperUp, err
	})
}

// waitLocal waits until what is sent to an address of this host is for this host: the
// kernel adds the route for an IPv6 address some time after the address.
func waitLocal(ctx context.Context, addr netip.Addr) error {
	return wait(ctx, "the route to "+addr.String(), func() (bool, error) {
		routes, err := netlink.RouteGet(addr.AsSlice())
		if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
			return false, nil
		}
		return len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL, err
	})
}

// wait waits until something is so, of which the kernel tells nobody.
func wait(ctx context.Context, what string, is func() (bool, error)) error {
	for {
		if so, err := is(); so || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
		case <-time.After(time.Millisecond):
		}
	}
}

// offload switches offloads of a device on or off, by the names of ethtool -k.
func offload(name string, features map[string]bool) error {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return fmt.Errorf("ethtool: %w", err)
	}
	defer e.Close()
	if err := e.Change(name, features); err != nil {
		return fmt.Errorf("ethtool -K %s: %w", name, needs(err))
	}
	have, err := e.Features(name)
	if err != nil {
		return fmt.Errorf("ethtool -k %s: %w", name, err)
	}
	for feature, on := range features {
		if have[feature] != on {
			err = errors.Join(err, fmt.Errorf("%s of %s cannot be set to %v by this kernel", feature, name, on))
		}
	}
	return err
}

// cutting has a device take no trains to send, of UDP nor of TCP: the kernel cuts them
// just before.
var cutting = map[string]bool{
	"tx-udp-segmentation": false, "tx-tcp-segmentation": false, "tx-tcp6-segmentation": false, "tx-tcp-ecn-segmentation": false,
}

// joining has a device join what it receives, by NAPI. A veth does so only if its peer
// sends no trains of TCP, since then there would be nothing to join.
var joining = map[string]bool{"rx-gro": true}

// counted are the counters of a host's device.
func (h *Host) counted() (netlink.LinkStatistics, error) {
	var s netlink.LinkStatistics
	err := h.Do(func() error {
		link, err := netlink.LinkByName(h.Device)
		if err != nil {
			return err
		}
		if counters := link.Attrs().Statistics; counters != nil {
			s = *counters
		}
		return nil
	})
	return s, err
}
