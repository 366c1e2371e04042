package netlab

import (
	"errors"
	"fmt"
	"math"
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
	join          bool // what is delivered
	start         time.Time
	wake          int // an eventfd, that has the threads look at ended
	ended         atomic.Bool
	threads       sync.WaitGroup

	mu  sync.Mutex
	err error
}

// startWire has a wire run between two files, which stay open until it is closed.
// They can join what they receive if join says so.
func startWire(p *Profile, join bool, receiver, sender int) (*wire, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	w := &wire{
		forward: newShaper(p.Forward, p.Seed, 0, p.mtu()),
		back:    newShaper(p.Back, p.Seed, 1, p.mtu()),
		join:    join, start: time.Now(), wake: wake,
	}
	var out, back func([]byte) bool
	if p.NAT {
		w.nat = newNAT()
		out, back = rewriter(w.nat.forward), rewriter(w.nat.backward)
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

// goFirst has this thread, which is locked, go before others where it may, since a network
// does not wait for processors. The thread is put back and unlocked by what it returns: if
// it ended, so would the processes that were started on it (PR_SET_PDEATHSIG).
func goFirst() (back func()) {
	const (
		first = -15 // a nice value
		bias  = 20  // getpriority(2) has nice values as 20 - nice
	)
	was, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err == nil {
		err = unix.Setpriority(unix.PRIO_PROCESS, 0, first)
	}
	return func() {
		if err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, 0, bias-was)
		}
		runtime.UnlockOSThread()
	}
}

// readBatch is how many packets are read before those that are due are looked at.
const readBatch = 64

// carry is a direction's thread. A packet that rewrite refuses does not get through.
func (w *wire) carry(in, out int, s *shaper, rewrite func([]byte) bool) error {
	runtime.LockOSThread()
	defer goFirst()()
	alarms := []unix.PollFd{{Fd: int32(w.wake), Events: unix.POLLIN}, {Fd: int32(in), Events: unix.POLLIN}}
	read, scratch := make([]byte, vnetHeader+maxPacket), make([]byte, 0, vnetHeader+maxPacket)
	var j joiner
	take := func(headed []byte) {
		if isGroup(headed[vnetHeader:]) || len(headed)-vnetHeader > s.size {
			return
		}
		p := s.spare()
		p.data = append(p.data[:0], headed...)
		if rewrite != nil && !rewrite(p.data) {
			s.unmapped.Add(1)
			s.recycle(p)
			return
		}
		s.take(time.Since(w.start), p)
	}
	for !w.ended.Load() {
		if err := w.deliver(out, s, &j); err != nil {
			return err
		}
		empty := false
		for range readBatch {
			n, err := unix.Read(in, read)
			if errors.Is(err, unix.EAGAIN) {
				empty = true
				break
			} else if errors.Is(err, unix.EINTR) {
				continue
			} else if err != nil {
				return os.NewSyscallError("read", err)
			}
			if n > vnetHeader {
				cut(read[:n], scratch, take)
			}
		}
		if !empty {
			continue
		}
		asleep, least := time.Since(w.start), tick(s.d.Delay)
		alarm, err := sleep(s, alarms, least, asleep)
		if err != nil {
			return err
		}
		if s.idle = math.MaxInt64; alarm {
			s.idle = asleep + least // it should have been awake by then
		}
	}
	return nil
}

// sleep sleeps until there is something to do; or for the least, whatever comes in, as it
// says then.
func sleep(s *shaper, alarms []unix.PollFd, least, now time.Duration) (alarm bool, err error) {
	var timeout *unix.Timespec
	if next, ok := s.next(now); ok {
		if alarm = least > 0; alarm {
			next, alarms = least, alarms[:1]
		}
		t := unix.NsecToTimespec(max(0, next).Nanoseconds())
		timeout = &t
	}
	if _, err := unix.Ppoll(alarms, timeout, nil); err != nil && !errors.Is(err, unix.EINTR) {
		return alarm, os.NewSyscallError("ppoll", err)
	}
	return alarm, nil
}

// deliver hands over what is due.
func (w *wire) deliver(out int, s *shaper, j *joiner) error {
	now := time.Since(w.start)
	for {
		if next, ok := s.next(now); !ok || next > 0 {
			return flush(out, j)
		}
		p := s.give()
		s.sent(p) // first, for whoever receives it may look at the counters
		for range copies(p) {
			if w.join && j.add(p.data) {
				continue
			}
			if err := flush(out, j); err != nil {
				return err
			}
			j.add(p.data)
		}
		s.recycle(p)
	}
}

func copies(p *packet) int {
	if p.twin {
		return 2
	}
	return 1
}

// flush writes what has been joined.
func flush(out int, j *joiner) error {
	if j.n == 0 {
		return nil
	}
	err := write(out, j.train())
	j.n = 0
	return err
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

func (w *wire) interrupt(on bool) error {
	w.forward.down.Store(on)
	w.back.down.Store(on)
	return nil
}

func (w *wire) shape(to shapes) error {
	w.forward.change.Store(&to.Forward)
	w.back.change.Store(&to.Back)
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
