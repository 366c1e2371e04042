package takeover

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/udp"
)

// Between yielding and Superseded an instance completes the handshakes that it has
// begun: until none has shown itself for settleQuiet, which exceeds the second that
// a client without a sample of the round trip waits before it sends again (RFC 9002
// §6.2.2), but for settleMax at most.
const (
	settleQuiet = 1500 * time.Millisecond
	settleMax   = 10 * time.Second
	settleStep  = 50 * time.Millisecond
)

// startAccepting waits for new instances. The caller holds mu.
func (l *Listener) startAccepting() error {
	if l.lock == nil || l.accepting || l.closed {
		return nil
	}
	raw, err := l.lock.SyscallConn()
	if err != nil {
		return err
	}
	if err := listenAgain(raw); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if err := l.lock.SetDeadline(time.Time{}); err != nil {
		return err
	}
	l.accepting = true
	l.wg.Go(func() {
		for {
			conn, err := l.lock.AcceptUnix()
			switch {
			case err == nil:
				l.wg.Go(func() { l.meet(conn) })
			case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
				return
			default:
				l.log.Warn("control socket: accept failed", "err", err)
				time.Sleep(settleStep)
			}
		}
	})
	return nil
}

// stopAccepting leaves new instances to the newer one. The caller holds mu.
func (l *Listener) stopAccepting() {
	if l.accepting {
		l.accepting = false
		_ = l.lock.SetDeadline(time.Unix(1, 0))
	}
}

// meet is the part of the old instance, for one that has connected.
func (l *Listener) meet(conn *net.UnixConn) {
	newer, err := l.hear(conn)
	if err != nil {
		_ = conn.Close()
		l.log.Debug("no hand-over", "err", err)
		return
	}
	var addrs addrBook
	newer.run(func(message []byte) {
		switch kind(message[0]) {
		case kindDatagram:
			l.received(newer, message, &addrs)
		case kindReady:
			l.yield(newer)
		case kindHeir:
			var heir bool
			if decode(message, kindHeir, &heir) == nil {
				newer.heir.Store(heir)
			}
		}
	})
	l.newerGone(newer)
}

// hear answers a hello, with an offer or a refusal.
func (l *Listener) hear(conn *net.UnixConn) (*link, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	p, err := peerOf(raw)
	if err != nil {
		return nil, err
	}
	if p.uid != os.Geteuid() {
		return nil, fmt.Errorf("process %d is of user %d", p.pid, p.uid)
	}
	newer, err := newLink(conn, p, toNewer, l.metrics)
	if err != nil {
		return nil, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(answerTimeout)); err != nil {
		return nil, err
	}
	buf := make([]byte, maxMessage)
	n, err := conn.Read(buf)
	if err != nil {
		return nil, err
	}
	var h hello
	if err := decode(buf[:n], kindHello, &h); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	refuse := refusal{Version: protocolVersion}
	switch other := l.newer.Load(); {
	case h.Version != protocolVersion:
		refuse.Reason = fmt.Sprintf("it speaks version %d of the hand-over, not %d; stop it first", protocolVersion, h.Version)
	case !h.Takeover:
		refuse.InUse, refuse.Reason = true, "it was not asked to"
	case other != nil:
		refuse.Reason = fmt.Sprintf("it is handing over to process %d", other.peer.pid)
	case l.closed || l.closing.Load():
		refuse.Reason = "it is ending; start again in a moment"
	default:
		return newer, l.offer(newer)
	}
	return nil, errors.Join(errors.New(refuse.Reason), newer.tell(kindRefusal, refuse))
}

// offer lets the newer instance in. The caller holds mu.
func (l *Listener) offer(newer *link) error {
	o := offer{Version: protocolVersion, Generation: l.own + 1, Keys: l.keys}
	o.Keys.Tickets = l.tickets.current()
	groups := l.groups
	if own, err := l.shards.Group(); err == nil {
		defer own.Sockets.Close()
		groups = append([]udp.Group{own}, groups...)
		// One shard alone is not steered to. Now it is, so that the sockets of the
		// newer instance get nothing before it steers itself.
		if kernel, _ := l.shards.Steering(); !kernel {
			if err := l.shards.Steer(l.groups...); err != nil {
				return err
			}
		}
	}
	groups = groups[:min(len(groups), maxGroups)]
	var fds []int
	for _, g := range groups {
		o.Groups = append(o.Groups, group{g.Generation, g.Shards})
		fds = append(fds, int(g.Sockets.Fd()))
	}
	message, err := encode(kindOffer, o)
	if err != nil {
		return err
	}
	raw, err := l.lock.SyscallConn()
	if err != nil {
		return err
	}
	// From here on datagrams may come that are for the newer instance.
	l.newer.Store(newer)
	l.inspect()
	// The descriptor of lock stays in Go's poller, in non-blocking mode.
	cerr := raw.Control(func(lock uintptr) {
		rights := unix.UnixRights(append([]int{int(lock)}, fds...)...)
		_, _, err = newer.conn.WriteMsgUnix(message, rights, nil)
	})
	if err = errors.Join(cerr, err, newer.conn.SetReadDeadline(time.Time{})); err != nil {
		l.newer.Store(nil)
		l.inspect()
	}
	return err
}

// yield leaves newcomers to the newer instance, which is ready.
func (l *Listener) yield(newer *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.newer.Load() != newer || l.yielded.Swap(true) && !l.left {
		return
	}
	l.stopAccepting()
	l.tellOlder(true)
	if err := newer.tell(kindYield, nil); err != nil {
		l.log.Warn("hand-over: the new instance does not listen", "pid", newer.peer.pid, "err", err)
	}
	l.metrics.handovers.WithLabelValues(roleOld).Inc()
	l.log.Info("a new instance has taken over", "listen", l.Addr().String(), "pid", newer.peer.pid)
	if !l.left {
		l.wg.Go(func() { l.settle(newer) })
	}
}

// settle waits for handshakes in progress, and closes superseded.
func (l *Listener) settle(newer *link) {
	start := time.Since(epoch)
	tick := time.NewTicker(settleStep)
	defer tick.Stop()
	for {
		select {
		case <-newer.done:
			return
		case <-tick.C:
		}
		now := time.Since(epoch)
		last := max(start, time.Duration(l.handshakes.Load()))
		if now-last < settleQuiet && now-start < settleMax {
			continue
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.newer.Load() == newer {
			l.leave()
		}
		return
	}
}

// leave closes superseded. The caller holds mu.
func (l *Listener) leave() {
	if !l.left {
		l.left = true
		close(l.superseded)
	}
}

// tellOlder has the older instance know whether there is one that it has no link to.
func (l *Listener) tellOlder(heir bool) {
	if older := l.older.Load(); older != nil {
		if err := older.tell(kindHeir, heir); err != nil && !older.gone() {
			l.log.Debug("hand-over: the older instance does not listen", "pid", older.peer.pid, "err", err)
		}
	}
}

// newerGone goes on alone after the newer instance has ended. Before Superseded that
// is as if it had never been there. After it no connection is accepted any more, but
// another instance can still take over.
//
// If another has taken over from the newer one already, the address is that one's: it
// listens on the control socket, and the kernel steers as it has said. There is no
// link to it. The newer one's is kept, at which all that is for it is dropped; our
// Transport would answer with stateless resets that are good.
func (l *Listener) newerGone(newer *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.newer.Load() != newer || l.closed {
		return
	}
	if newer.heir.Load() {
		l.log.Warn("the instance that has taken over has ended, and another serves; requests at work here may be lost if the kernel does not steer", "pid", newer.peer.pid)
		l.leave()
		return
	}
	l.newer.Store(nil)
	l.tellOlder(false)
	l.inspect()
	resumed := !l.left
	if resumed {
		l.yielded.Store(false)
	}
	l.metrics.handovers.WithLabelValues(roleAbandoned).Inc()
	l.log.Warn("the instance that was taking over has ended", "pid", newer.peer.pid, "serving_on", resumed)
	// The kernel steers as that instance has told it, if it came to that.
	if kernel, _ := l.shards.Steering(); kernel {
		if err := l.shards.Steer(l.groups...); err != nil {
			l.log.Warn("steering", "err", err)
		}
	}
	if err := l.startAccepting(); err != nil {
		l.log.Error("no other instance can take over", "err", err)
	}
}
