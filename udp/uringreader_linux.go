package udp

import (
	"errors"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/tailfin-quic/tailfin/uring"
)

// A uringReader reads through an io_uring that belongs to the thread of the
// goroutine that reads: no hop stands between a completion and its reader, and
// the kernel does the receiving on the thread that wants the data.
type uringReader struct {
	socket *net.UDPConn
	conf   uring.Config
	addrs  addrCache
	ctrl   controlParser

	// Used under the lane's mutex only.
	rx     *uring.Receiver // nil once closed, or if a rebuild failed
	held   uring.Datagram  // its buffer goes back at the next call
	holds  bool
	missed int // waits in a row of goroutines that do not own the ring

	gate *gate

	wakeMu sync.Mutex      // guards what follows: a wake must not meet a ring that is going away
	live   *uring.Receiver // rx as others may see it
	past   uring.Stats     // of rings that were replaced
}

// newUringReader sets the first ring up. It is enabled by the first read.
func newUringReader(socket *net.UDPConn, g *gate, gro bool, buffers int) (*uringReader, error) {
	u := &uringReader{socket: socket, gate: g, conf: uring.Config{Buffers: buffers}}
	if !gro {
		u.conf.Payload = plainPayload
	}
	if err := u.rebuild(); err != nil {
		return nil, err
	}
	return u, nil
}

// plainPayload is the room for a datagram where no trains come: more than any
// path MTU that QUIC uses, so that a longer one is no QUIC packet.
const plainPayload = 2048

// rebuild makes a new ring in place of the one there was.
func (u *uringReader) rebuild() error {
	u.drop((*uring.Receiver).Abandon)
	var rx *uring.Receiver
	var err error
	if cerr := control(u.socket, func(fd int) { rx, err = uring.NewReceiver(fd, u.conf) }); cerr != nil {
		return cerr
	}
	if err != nil {
		return err
	}
	u.wakeMu.Lock()
	defer u.wakeMu.Unlock()
	u.rx, u.live = rx, rx
	return nil
}

// drop ends the ring by the given way, which may take a while: nobody who only
// wants to wake or to count has to wait for it.
func (u *uringReader) drop(end func(*uring.Receiver) error) {
	rx := u.rx
	if rx == nil {
		return
	}
	u.wakeMu.Lock()
	u.past = addStats(u.past, rx.Stats())
	u.live = nil
	u.wakeMu.Unlock()
	u.rx, u.holds = nil, false
	_ = end(rx)
}

// next returns what has been received already.
func (u *uringReader) next() (packet, bool) {
	if u.rx == nil {
		return packet{}, false
	}
	if u.holds {
		u.rx.Recycle(u.held)
		u.holds = false
	}
	d, ok := u.rx.Next()
	if !ok {
		return packet{}, false
	}
	u.held, u.holds = d, true
	control, segment := u.ctrl.parse(d.Control)
	return packet{addr: u.addrs.lookup(d.Name), payload: d.Payload, segment: segment, control: control}, true
}

// wait blocks in the ring. A goroutine whose thread does not own it gets
// errForeign, unless there is no owner any more, and then takes its place.
func (u *uringReader) wait() error {
	if u.rx == nil {
		// Not closed, or the gate would have said so: the last rebuild failed,
		// for want of memory or descriptors, and may work now.
		if err := u.rebuild(); err != nil {
			return err
		}
	}
	if !u.rx.Owner() {
		if again, err := u.own(); again || err != nil {
			return err
		}
	}
	u.missed = 0
	if u.holds {
		u.rx.Recycle(u.held)
		u.holds = false
	}
	timeout := time.Duration(-1)
	if left, ok := u.gate.left(); ok {
		timeout = max(0, left)
	}
	return u.rx.Wait(timeout)
}

// stop ends the receive if the calling goroutine owns the ring: for good after
// a close, and until the next wait at a deadline, which is how quic-go
// (v0.65.0) ends its reader.
func (u *uringReader) stop() {
	if u.rx == nil || !u.rx.Owner() {
		return
	}
	if u.gate.closed.Load() {
		u.drop((*uring.Receiver).Close)
		return
	}
	u.rx.Rest()
}

// takeOver is after how many waits of others, with none of the owner's between,
// the ring goes to the one that waits. A ring takes tens of milliseconds to
// change hands while its owner lives, so readers in turn must not cause it.
const takeOver = 32

// own makes the calling goroutine the owner, if there is none or if it stays
// away. It reports again if datagrams have turned up that must be read first.
func (u *uringReader) own() (again bool, err error) {
	if u.rx.Owned() {
		// An owner whose goroutine has ended has no thread any more: quic-go's
		// reader ends at Transport.Close, and another Transport may come. But the
		// main thread never ends; Go (1.26) parks it for good when a goroutine
		// that is locked to it does.
		if !u.rx.Orphaned() {
			if u.missed++; u.missed < takeOver {
				return false, errForeign
			}
		}
		// A thread that ends completes what it has under way, and that may be
		// later than our last look.
		if u.rx.Ready() {
			return true, nil
		}
		if err := u.rebuild(); err != nil {
			return false, err
		}
	}
	runtime.LockOSThread() // for good: the ring knows this thread alone
	if err := u.rx.Own(); err != nil {
		runtime.UnlockOSThread()
		return false, err
	}
	return false, nil
}

// wake has a blocked read look at the gate.
func (u *uringReader) wake() {
	u.wakeMu.Lock()
	defer u.wakeMu.Unlock()
	if u.live != nil {
		u.live.Wake()
	}
}

// close ends the ring of a closed gate. A blocked reader is woken and ends it
// itself, which is the fast way; otherwise the kernel may have to be waited for.
func (u *uringReader) close(l *lane) {
	u.wake()
	l.mu.Lock()
	defer l.mu.Unlock()
	u.stop()
	u.drop((*uring.Receiver).Abandon) // nothing is left to drop if we own it
}

func (u *uringReader) stats() uring.Stats {
	u.wakeMu.Lock()
	defer u.wakeMu.Unlock()
	if u.live == nil {
		return u.past
	}
	return addStats(u.past, u.live.Stats())
}

func addStats(a, b uring.Stats) uring.Stats {
	return uring.Stats{
		Enters:    a.Enters + b.Enters,
		Rearms:    a.Rearms + b.Rearms,
		NoBuffers: a.NoBuffers + b.NoBuffers,
		Overflows: a.Overflows + b.Overflows,
		Truncated: a.Truncated + b.Truncated,
		Failed:    a.Failed + b.Failed,
	}
}

// control runs f with the descriptor of a socket.
func control(socket *net.UDPConn, f func(fd int)) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	if err := raw.Control(func(fd uintptr) { f(int(fd)) }); err != nil {
		return errors.Join(net.ErrClosed, err)
	}
	return nil
}
