package takeover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/udp"
)

// answerTimeout bounds the wait for an instance that should answer at once.
const answerTimeout = 5 * time.Second

// linkBuffer is the send buffer of a link, in bytes, where the kernel permits it.
const linkBuffer = 4 << 20

// A link connects two instances. Messages keep their bounds and their order.
type link struct {
	conn *net.UnixConn
	raw  syscall.RawConn
	peer peer
	name string        // of the peer's role, for the metrics: toOlder or toNewer
	done chan struct{} // closed when the peer has gone

	drained atomic.Bool   // the peer has no connections any more, but may know who has
	yielded chan struct{} // closed when the peer has answered ready
	heir    atomic.Bool   // another instance has taken over from the peer

	sent, lost prometheus.Counter

	mu   sync.Mutex // guards what follows
	buf  []byte
	err  error
	send func(fd uintptr) // trySend, made once: a method value allocates
}

func newLink(conn *net.UnixConn, p peer, name string, m *metrics) (*link, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	l := &link{
		conn: conn, raw: raw, peer: p, name: name,
		done: make(chan struct{}), yielded: make(chan struct{}),
		sent: m.forwarded.WithLabelValues(name), lost: m.dropped.WithLabelValues(droppedSend),
	}
	l.send = l.trySend
	growBuffer(raw, linkBuffer)
	return l, nil
}

// forward sends a datagram to the peer, or drops it if there is no room: it is
// called by the goroutines that receive.
func (l *link) forward(d udp.Datagram) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, err := appendDatagram(l.buf[:0], d)
	l.buf = b
	// Control and not Write, which would wait for a message of tell.
	if err == nil {
		err = l.raw.Control(l.send)
	}
	if err != nil || l.err != nil {
		l.lost.Inc()
		return
	}
	l.sent.Inc()
}

// trySend sends buf. The caller holds mu.
func (l *link) trySend(fd uintptr) {
	for {
		_, l.err = unix.SendmsgN(int(fd), l.buf, nil, nil, sendFlags)
		if !errors.Is(l.err, unix.EINTR) {
			return
		}
	}
}

// tell sends a message that must not be lost.
func (l *link) tell(k kind, v any) error {
	b, err := encode(k, v)
	if err != nil {
		return err
	}
	if err := l.conn.SetWriteDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	if _, err := l.conn.Write(b); err != nil {
		return fmt.Errorf("tell process %d: %w", l.peer.pid, err)
	}
	return nil
}

// run hands messages on until the peer has gone.
func (l *link) run(handle func(message []byte)) {
	defer close(l.done)
	buf := make([]byte, maxMessage)
	for {
		n, err := l.conn.Read(buf)
		if err != nil || n == 0 {
			_ = l.conn.Close()
			return
		}
		handle(buf[:n])
	}
}

// await waits for a channel, for ctx, and for the peer to go; it reports whether
// it was the channel.
func (l *link) await(ctx context.Context, c <-chan struct{}) (bool, error) {
	select {
	case <-c:
		return true, nil
	case <-l.done:
		return false, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// gone tells whether the peer has gone.
func (l *link) gone() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// hasYielded tells whether the peer has answered ready.
func (l *link) hasYielded() bool {
	select {
	case <-l.yielded:
		return true
	default:
		return false
	}
}
