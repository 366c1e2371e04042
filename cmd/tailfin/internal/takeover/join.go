package takeover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/udp"
)

// join is the part of the new instance: it asks the one at the other end of conn,
// binds, and from then on passes to it what is for it.
func (l *Listener) join(ctx context.Context, conn *net.UnixConn) error {
	older, o, err := l.ask(ctx, conn)
	if err != nil {
		_ = conn.Close()
		return err
	}
	l.own, l.keys = o.Generation, o.Keys
	l.older.Store(older)
	if err := l.bind(); err != nil {
		_ = conn.Close()
		return fmt.Errorf("beside process %d: %w", older.peer.pid, err)
	}
	l.mu.Lock()
	l.inspect()
	l.mu.Unlock()
	l.pumping = startPump(l.shards.Conns())
	l.metrics.draining.Set(1)
	l.wg.Go(func() {
		var addrs addrBook
		older.run(func(message []byte) {
			switch kind(message[0]) {
			case kindDatagram:
				l.received(older, message, &addrs)
			case kindYield:
				if !older.hasYielded() {
					close(older.yielded)
				}
			case kindDrained:
				older.drained.Store(true)
			}
		})
		l.olderGone(older)
	})
	return nil
}

// ask gets an offer.
func (l *Listener) ask(ctx context.Context, conn *net.UnixConn) (_ *link, o offer, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, o, err
	}
	p, err := peerOf(raw)
	if err != nil {
		return nil, o, err
	}
	older, err := newLink(conn, p, toOlder, l.metrics)
	if err != nil {
		return nil, o, err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	if err := conn.SetReadDeadline(time.Now().Add(answerTimeout)); err != nil {
		return nil, o, err
	}
	if err := older.tell(kindHello, hello{Version: protocolVersion, Takeover: l.conf.Takeover}); err != nil {
		return nil, o, l.askError(p, err)
	}
	message, fds, err := readWithFDs(conn)
	if err != nil {
		return nil, o, l.askError(p, err)
	}
	if err := l.accept(message, fds, p, &o); err != nil {
		closeAll(fds)
		return nil, o, err
	}
	return older, o, conn.SetReadDeadline(time.Time{})
}

// askError explains an instance that does not answer.
func (l *Listener) askError(p peer, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%s is held by process %d, which does not answer; it may be starting or stuck: %w", l.conf.Address, p.pid, err)
	}
	return fmt.Errorf("ask process %d, which serves %s: %w", p.pid, l.conf.Address, err)
}

// accept takes an offer and its descriptors, which are its own if there is no error.
func (l *Listener) accept(message []byte, fds []*os.File, p peer, o *offer) error {
	if len(message) > 0 && kind(message[0]) == kindRefusal {
		var r refusal
		if err := decode(message, kindRefusal, &r); err != nil {
			return err
		}
		if r.InUse {
			return &InUseError{Address: l.conf.Address, PID: p.pid}
		}
		return fmt.Errorf("process %d, which serves %s, does not hand over: %s", p.pid, l.conf.Address, r.Reason)
	}
	if err := decode(message, kindOffer, o); err != nil {
		return fmt.Errorf("offer of process %d: %w", p.pid, err)
	}
	if err := o.check(len(fds)); err != nil {
		return fmt.Errorf("offer of process %d: %w", p.pid, err)
	}
	ln, err := net.FileListener(fds[0])
	if err != nil {
		return fmt.Errorf("control socket of process %d: %w", p.pid, err)
	}
	lock, ok := ln.(*net.UnixListener)
	if !ok {
		_ = ln.Close()
		return fmt.Errorf("control socket of process %d: it is a %T", p.pid, ln)
	}
	l.lock = lock
	_ = fds[0].Close()
	for i, g := range o.Groups {
		l.groups = append(l.groups, udp.Group{Generation: g.Generation, Shards: g.Shards, Sockets: fds[1+i]})
	}
	return nil
}

// relieve tells the older instance to yield, if there is one, and waits until it has.
func (l *Listener) relieve(ctx context.Context) error {
	older := l.older.Load()
	if older == nil {
		return nil
	}
	l.mu.Lock()
	err := l.shards.Steer(l.groups...)
	l.mu.Unlock()
	if err != nil {
		return err
	}
	if ctx.Err() != nil { // it would yield for nothing
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if err := older.tell(kindReady, nil); err != nil && !older.gone() && !errors.Is(err, unix.EPIPE) {
		return err
	}
	yielded, err := older.await(ctx, older.yielded)
	if err != nil {
		return fmt.Errorf("process %d does not yield %s: %w", older.peer.pid, l.Addr(), err)
	}
	l.metrics.handovers.WithLabelValues(roleNew).Inc()
	l.log.Info("taken over", "listen", l.Addr().String(), "from", older.peer.pid, "generation", l.own, "it_ended_before", !yielded)
	return nil
}

// olderGone forgets the older instance, whose process has ended.
func (l *Listener) olderGone(older *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.older.CompareAndSwap(older, nil)
	l.inspect()
	l.closeGroups()
	l.metrics.draining.Set(0)
	l.log.Info("the instance that was taken over from has ended", "pid", older.peer.pid, "drained", older.drained.Load())
}

func (l *Listener) closeGroups() {
	for _, g := range l.groups {
		_ = g.Sockets.Close()
	}
	l.groups = nil
}

// readWithFDs reads a message and the descriptors that came with it.
func readWithFDs(conn *net.UnixConn) ([]byte, []*os.File, error) {
	buf, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*(1+maxGroups)))
	n, oobn, flags, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil {
		return nil, nil, err
	}
	var files []*os.File
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return nil, nil, err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "handed over"))
		}
	}
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		closeAll(files)
		return nil, nil, errors.New("the answer is too long")
	}
	return buf[:n], files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
