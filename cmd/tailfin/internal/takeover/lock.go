package takeover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
)

// lockName is the name of the control socket for an address. It is in the abstract
// namespace (unix(7)), which belongs to a network namespace as UDP ports do and
// leaves no file behind. The user is in it since only one user may share a port.
func lockName(network string, addr *net.UDPAddr) string {
	return fmt.Sprintf("@tailfin/%d/%s/%s", os.Geteuid(), network, addr)
}

// resolve returns the address in a form that is the same for all ways to write it.
func resolve(network, address string) (*net.UDPAddr, error) {
	addr, err := net.ResolveUDPAddr(network, address)
	if err != nil {
		return nil, err
	}
	if len(addr.IP) == 0 || addr.IP.IsUnspecified() {
		addr.IP = net.IPv6zero // package net takes 0.0.0.0 so too, unless it is asked for udp4
		if network == "udp4" {
			addr.IP = net.IPv4zero
		}
	}
	return addr, nil
}

// acquire makes the control socket, or connects to that of the instance that has
// it: one of the two is not nil.
func acquire(ctx context.Context, name string) (*net.UnixListener, *net.UnixConn, error) {
	addr := &net.UnixAddr{Name: name, Net: "unixpacket"}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	for {
		ln, err := net.ListenUnix("unixpacket", addr)
		if err == nil {
			return ln, nil, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, nil, fmt.Errorf("make control socket %s: %w", name, err)
		}
		var d net.Dialer
		c, err := d.DialContext(ctx, "unixpacket", name)
		if err == nil {
			conn, ok := c.(*net.UnixConn)
			if !ok {
				_ = c.Close()
				return nil, nil, fmt.Errorf("connecting to %s gave a %T", name, c)
			}
			return nil, conn, nil
		}
		// It has ended since, or does not listen yet.
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, nil, fmt.Errorf("connect to control socket %s: %w", name, err)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("control socket %s neither free nor answering: %w", name, context.Cause(ctx))
		}
	}
}

// checkFree fails if another program has the address. The sockets of an instance
// would share it with any other of the same user that lets them, unnoticed.
func checkFree(network string, addr *net.UDPAddr) error {
	c, err := net.ListenUDP(network, addr)
	if err != nil {
		return err
	}
	return c.Close()
}

// withPort is an address with a port.
func withPort(address string, port int) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// An InUseError tells that another instance serves the address, and was not to be
// taken over from.
type InUseError struct {
	Address string
	PID     int
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("%s is served by process %d; take over from it with --takeover, stop it, or listen on another port", e.Address, e.PID)
}

// Is makes it one of syscall.EADDRINUSE.
func (e *InUseError) Is(target error) bool { return target == error(syscall.EADDRINUSE) }
