package netlab

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A wire takes packets from a TUN device to another, and shapes them on the way. Each
// direction has a thread.
type wire struct {
	forward, back *shaper
	nat           *nat // nil for none
	start         time.Time
	wake          int // an eventfd, that has the threads look at ended
	ended         atomic.Bool
	threads       sync.WaitGroup

	mu  sync.Mutex
	err error
}

// startWire has a wire run between two files, which stay open until it is closed.
func startWire(p *Profile, receiver, sender int) (*wire, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	w := &wire{
		forward: newShaper(p.Forward, p.Seed, 0, p.mtu()),
		back:    newShaper(p.Back, p.Seed, 1, p.mtu()),
		start:   time.Now(), wake: wake,
	}
	var out, back func([]byte) bool
	if p.NAT {
		w.nat = newNAT()
		out, back = w.nat.forward, w.nat.backward
	}
	for _, fd := range []int{receiver, sender} {
		if err := unix.SetNonblock(fd, true); err != nil {
			_ = unix.Close(wake)
			return nil, os.NewSyscallError("fcntl", err)
		}
	}
	w.threads.Go(func() { w.fail(w.carry(sender, receiver, w.forward, out)) })
	w.threads.Go(func() { w.fail(w.carry(receiver, sender, w.back, back)) })
	return w, nil
}

// maxTick is the longest that a thread sleeps while packets are under way, whatever
// comes in: an alarm for each packet would cost more than the packet. They are late by
// as much, and never early.
const maxTick = 200 * time.Microsecond

// tick is the sleep for a delay, of which it is 2 % at most. Short delays have none.
func tick(delay time.Duration) time.Duration {
	const shortest, part = time.Millisecond, 50
	if delay < shortest {
		return 0
	}
	return min(maxTick, delay/part)
}

// wirePriority is a nice value.
const wirePriority = -15

// readBatch is how many packets are read before those that are due are looked at.
const readBatch = 64

// carry is a direction's thread. A packet that rewrite refuses does not get through.
func (w *wire) carry(in, out int, s *shaper, rewrite func([]byte) bool) error {
	// The thread is never unlocked, and ends with this function: it goes before others,
	// since a network does not wait for processors. Where it may not it does not.
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), wirePriority)
	alarms := []unix.PollFd{{Fd: int32(w.wake), Events: unix.POLLIN}, {Fd: int32(in), Events: unix.POLLIN}}
	least := tick(s.d.Delay)
	p := s.spare()
	for !w.ended.Load() {
		if err := w.deliver(out, s); err != nil {
			return err
		}
		empty := false
		for range readBatch {
			n, err := unix.Read(in, p.data)
			if errors.Is(err, unix.EAGAIN) {
				empty = true
				break
			} else if errors.Is(err, unix.EINTR) {
				continue
			} else if err != nil {
				return os.NewSyscallError("read", err)
			}
			if p.data = p.data[:n]; isGroup(p.data) {
				p.data = p.data[:s.size]
				continue
			}
			if rewrite != nil && !rewrite(p.data) {
				s.unmapped.Add(1)
				p.data = p.data[:s.size]
				continue
			}
			s.take(time.Since(w.start), p)
			p = s.spare()
		}
		if !empty {
			continue
		}
		if err := sleep(s, alarms, least, time.Since(w.start)); err != nil {
			return err
		}
	}
	return nil
}

// sleep sleeps until there is something to do.
func sleep(s *shaper, alarms []unix.PollFd, least, now time.Duration) error {
	var timeout *unix.Timespec
	if next, ok := s.next(now); ok {
		if least > 0 {
			next, alarms = least, alarms[:1]
		}
		t := unix.NsecToTimespec(max(0, next).Nanoseconds())
		timeout = &t
	}
	if _, err := unix.Ppoll(alarms, timeout, nil); err != nil && !errors.Is(err, unix.EINTR) {
		return os.NewSyscallError("ppoll", err)
	}
	return nil
}

// deliver hands over what is due.
func (w *wire) deliver(out int, s *shaper) error {
	now := time.Since(w.start)
	for {
		if next, ok := s.next(now); !ok || next > 0 {
			return nil
		}
		p := s.give()
		s.sent(p) // first, for whoever receives it may look at the counters
		if err := write(out, p.data); err != nil {
			return err
		}
		if p.twin {
			if err := write(out, p.data); err != nil {
				return err
			}
		}
		s.recycle(p)
	}
}

func write(fd int, packet []byte) error {
	for {
		_, err := unix.Write(fd, packet)
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("write", err)
		}
	}
}

// fail ends the wire, with an error or none.
func (w *wire) fail(err error) {
	if err != nil {
		w.mu.Lock()
		w.err = errors.Join(w.err, fmt.Errorf("wire: %w", err))
		w.mu.Unlock()
	}
	w.end()
}

func (w *wire) end() {
	w.ended.Store(true)
	_, _ = unix.Write(w.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// stats reads the counters, and says how the wire has failed if it has.
func (w *wire) stats() (Stats, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Stats{Forward: w.forward.counters(), Back: w.back.counters()}, w.err
}

func (w *wire) rebind(r Rebinding) error {
	switch {
	case w.nat == nil:
		return errNoNAT
	case r != RebindPort && r != RebindAddress:
		return fmt.Errorf("no rebinding %q; there are %s and %s", r, RebindPort, RebindAddress)
	}
	w.nat.rebind(r)
	return nil
}

// close ends the wire. What is under way is lost.
func (w *wire) close() error {
	w.end()
	w.threads.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(w.err, os.NewSyscallError("close", unix.Close(w.wake)))
}
