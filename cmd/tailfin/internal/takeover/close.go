package takeover

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/tailfin-quic/tailfin/udp"
)

// Close closes the transports and their sockets; shut the server down before. While
// an older instance still finishes its connections Close goes on to pass datagrams
// to it, until ctx ends. What has come for the newer instance is passed on before
// the sockets are closed.
func (l *Listener) Close(ctx context.Context) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return errClosed
	}
	l.closed = true
	l.mu.Unlock()

	if l.pumping != nil {
		l.pumping.stop()
	}
	var errs []error
	for _, t := range l.transports {
		errs = append(errs, t.Close())
	}
	if newer := l.newer.Load(); newer != nil && !newer.gone() {
		// It hears that before it gets what is for our connections.
		if newer.tell(kindDrained, nil) == nil {
			l.closing.Store(true)
		}
	}
	if l.shards != nil {
		l.passOn(ctx)
		errs = append(errs, l.shards.Close())
	}
	if l.lock != nil {
		errs = append(errs, l.lock.Close())
	}
	for _, peer := range []*link{l.newer.Load(), l.older.Load()} {
		if peer != nil {
			_ = peer.conn.Close()
		}
	}
	l.wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closeGroups()
	return errors.Join(errs...)
}

// How long the sockets must have been empty, and how long to wait for that where
// the kernel goes on to give us what is for others.
const (
	emptyFor = 20 * time.Millisecond
	emptyMax = 500 * time.Millisecond
)

// passOn forwards what still comes.
func (l *Listener) passOn(ctx context.Context) {
	// One that has not taken over leaves the older instance as it was.
	if older := l.older.Load(); older != nil && l.serving.Load() {
		p := startPump(l.shards.Conns())
		select {
		case <-older.done:
		case <-ctx.Done():
		}
		p.stop()
	}
	if l.newer.Load() == nil {
		return
	}
	var wg sync.WaitGroup
	for _, c := range l.shards.Conns() {
		wg.Go(func() {
			ms := messages()
			for end := time.Now().Add(emptyMax); time.Now().Before(end); {
				_ = c.SetReadDeadline(time.Now().Add(emptyFor))
				if _, err := c.ReadBatch(ms, 0); err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
}

// A pump reads from sockets that no transport reads from, for the Inspectors. What
// these let pass is lost.
type pump struct {
	conns   []*udp.Conn
	stopped atomic.Bool
	once    sync.Once
	wg      sync.WaitGroup
}

func startPump(conns []*udp.Conn) *pump {
	p := &pump{conns: conns}
	for _, c := range conns {
		p.wg.Go(func() {
			ms := messages()
			for !p.stopped.Load() {
				if _, err := c.ReadBatch(ms, 0); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
					return
				}
			}
		})
	}
	return p
}

// stop ends it. A transport that has begun to read tries again after the deadline
// that it sees meanwhile.
func (p *pump) stop() {
	p.once.Do(func() {
		p.stopped.Store(true)
		for _, c := range p.conns {
			_ = c.SetReadDeadline(time.Unix(1, 0))
		}
		p.wg.Wait()
		for _, c := range p.conns {
			_ = c.SetReadDeadline(time.Time{})
		}
	})
}

// messages are what a pump reads into.
func messages() []ipv4.Message {
	ms := make([]ipv4.Message, 8)
	for i := range ms {
		ms[i].Buffers = [][]byte{make([]byte, maxDatagram)}
	}
	return ms
}
