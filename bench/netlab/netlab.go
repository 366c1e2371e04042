package netlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// The paths that Open knows.
const (
	Loopback = "loopback" // both ends are in the namespace of this process
	Veth     = "veth"     // trains cross whole
	VethCut  = "veth-cut" // trains are cut before they cross, and joined after
	WAN      = "wan"      // far, narrow and lossy
)

// Paths lists what Open takes.
var Paths = []string{Loopback, Veth, VethCut, WAN}

// What has the impairments of a Profile done.
const (
	Netem = "netem" // the kernel's qdisc
	Wire  = "wire"  // this package's, in user space
)

// A Host is an end of a path.
type Host struct {
	Net    *os.File   // its network namespace; nil for that of this process
	Addr   netip.Addr // IPv4
	Addr6  netip.Addr // the zero Addr where the kernel has no IPv6
	Device string     // the interface that has the addresses
}

// A Lab is a path that is up.
type Lab struct {
	Path             string // or the name of the Profile
	Emulator         string // Netem or Wire; empty where nothing is impaired
	Receiver, Sender Host

	link link // nil for loopback
}

// A link is what joins the hosts.
type link interface {
	stats() (Stats, error)
	rebind(Rebinding) error
	interrupt(on bool) error
	shape(to shapes) error
	close() error
}

// Open sets a path up. The error says what it needs, if it is not to be had here. A
// wire is a process of its own, so that none of the parties is charged for it: the
// program must give Roles to proc.Child.
func Open(ctx context.Context, path string) (*Lab, error) {
	if err := Check(path); err != nil {
		return nil, err
	}
	if path == Loopback {
		return loopback(), nil
	}
	p := profiles[path]
	p.Process = true
	return Build(ctx, p)
}

func loopback() *Lab {
	host := Host{Addr: netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback == 0 {
			continue
		}
		host.Device = i.Name
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.Equal(net.IPv6loopback) {
				host.Addr6 = netip.IPv6Loopback()
			}
		}
	}
	return &Lab{Path: Loopback, Receiver: host, Sender: host}
}

// Build sets a path of an own profile up.
func Build(ctx context.Context, p Profile) (*Lab, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	lab, err := build(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("path %s: %w", p.Name, err)
	}
	return lab, nil
}

// Check says whether there is such a path.
func Check(path string) error {
	if !slices.Contains(Paths, path) {
		return fmt.Errorf("no path %q; there are %s", path, strings.Join(Paths, ", "))
	}
	return nil
}

// Stats are the counters so far. A wire that has failed says so here.
func (l *Lab) Stats() (Stats, error) {
	if l.link == nil {
		return Stats{}, nil
	}
	return l.link.stats()
}

// A Rebinding is what changes when a NAT forgets its mappings.
type Rebinding string

// What can change.
const (
	RebindPort    Rebinding = "port"    // the address stays
	RebindAddress Rebinding = "address" // and the ports change, too
)

// Rebind has the NAT of the path forget its mappings: whatever the sender sends from
// now on has another source. What is still sent to the old one is lost.
func (l *Lab) Rebind(r Rebinding) error {
	if l.link == nil {
		return errNoNAT
	}
	return l.link.rebind(r)
}

// Interrupt has nothing get through in either direction, as where a link of the path is
// down, until it is called with false. What is under way still arrives.
func (l *Lab) Interrupt(on bool) error {
	if l.link == nil {
		return errNoWire
	}
	return l.link.interrupt(on)
}

// shapes are what both directions of a path are to be like.
type shapes struct {
	Forward Direction `json:"forward"`
	Back    Direction `json:"back"`
}

// Shape changes what befalls packets from now on; those under way keep their fate.
func (l *Lab) Shape(forward, back Direction) error {
	if err := errors.Join(forward.check("forward"), back.check("back")); err != nil {
		return err
	}
	if l.link == nil {
		return errNoWire
	}
	return l.link.shape(shapes{forward, back})
}

var (
	errNoNAT  = errors.New("the path has no NAT; set Profile.NAT")
	errNoWire = errors.New("the path has no wire; set Profile.Emulator to " + Wire)
)

// Close takes the path down. Sockets that are still open in its namespaces keep these,
// but nothing crosses any more.
func (l *Lab) Close() error {
	var err error
	if l.link != nil {
		err = l.link.close()
	}
	for _, h := range []*Host{&l.Receiver, &l.Sender} {
		if h.Net != nil {
			err = errors.Join(err, h.Net.Close())
		}
	}
	return err
}
