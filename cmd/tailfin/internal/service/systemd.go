package service

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/quic-go/quic-go"
	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/udp"
)

// notify tells the service manager of a change (sd_notify(3)). Without one it does
// nothing.
func notify(log *slog.Logger, state ...string) {
	if _, err := sd.SdNotify(false, strings.Join(state, "\n")); err != nil {
		log.Warn("cannot notify the service manager", "state", state[0], "err", err)
	}
}

// reloading is the state of a reload that begins (Type=notify-reload wants the time).
func reloading() []string {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return []string{sd.SdNotifyReloading}
	}
	return []string{sd.SdNotifyReloading, fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000)}
}

// watchdog tells the service manager twice in each of its intervals that datagrams
// are being read, until ctx ends. It proves it by sending one to each socket: what
// blocks the receive path then gets the daemon restarted. It begins only once
// that has worked, so that a firewall before the loopback device does no harm.
func watchdog(ctx context.Context, s *sockets, log *slog.Logger) {
	interval, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("the service manager's watchdog is not served", "err", err)
		return
	}
	if interval == 0 {
		return
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	armed := false
	for {
		alive := s.receive(ctx, interval/4)
		switch {
		case alive:
			armed = true
		case armed:
			log.Error("datagrams sent to ourselves are not read; the watchdog is not told that all is well")
		}
		if alive || !armed {
			notify(log, sd.SdNotifyWatchdog)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// receive tells whether every socket's reader takes in a datagram within a time.
func (s *sockets) receive(ctx context.Context, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	// What is passed on to another instance has been read too.
	read := func(c *udp.Conn) uint64 {
		stats := c.Stats()
		return stats.Datagrams + stats.KeptBack
	}
	before := make([]uint64, len(s.conns))
	for i, c := range s.conns {
		before[i] = read(c)
	}
	const patience = 10 * time.Millisecond
	for {
		all := true
		for i, c := range s.conns {
			if read(c) == before[i] {
				all = false
				knock(c.LocalAddr(), s.transports[i].ConnectionIDGenerator)
			}
		}
		if all {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(patience):
		}
	}
}

// knock sends a datagram that is too short for QUIC: the form bits of a short header,
// and a connection ID of the shard, by which it comes to that also while another
// instance is on the address. Sockets of the service manager have no such IDs.
func knock(addr net.Addr, ids quic.ConnectionIDGenerator) {
	to, ok := addr.(*net.UDPAddr)
	if !ok {
		return
	}
	target := *to
	if target.IP.IsUnspecified() {
		target.IP = net.IPv6loopback
		if to.IP.To4() != nil {
			target.IP = net.IPv4(127, 0, 0, 1)
		}
	}
	const shortHeader = 0x40 // RFC 9000 §17.3
	datagram := []byte{shortHeader, 0}
	if ids != nil {
		id, err := ids.GenerateConnectionID()
		if err != nil {
			return
		}
		datagram = append(datagram[:1], id.Bytes()...)
	}
	c, err := net.DialUDP("udp", nil, &target)
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	_, _ = c.Write(datagram)
}
