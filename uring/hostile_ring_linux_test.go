//go:build linux && !nouring && (386 || amd64 || arm || arm64 || loong64 || mips64le || mipsle || ppc64le || riscv64)

package uring

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/bench/hostile"
)

// TestHostileSchedule has models take random steps: what is sent, received, held and
// given back, and Receivers closed and opened, in any order.
func TestHostileSchedule(t *testing.T) {
	var counts modelCounts
	if c, err := net.ListenUDP("udp4", nil); err == nil {
		_ = c.Close() // Go's poller has its descriptors now
	}
	descriptors, rings := fds(t), ringMaps(t)
	steps := hostile.Size(250, 20_000)
	ran := 0
	for seed, conf := range []Config{
		{Buffers: 1, Payload: 100},
		{Buffers: 2, Payload: 2048},
		{Buffers: 4, Payload: 100, Completions: 1},
		{Buffers: 16, Payload: 2048},
		{Buffers: 32, Payload: 1500, Completions: 1},
		{Buffers: 32, Payload: 300},
		{},
	} {
		for _, gro := range []bool{false, true} {
			name := fmt.Sprintf("seed=%d,buffers=%d,payload=%d,completions=%d,gro=%v", seed, conf.Buffers, conf.Payload, conf.Completions, gro)
			t.Run(name, func(t *testing.T) {
				m := newModel(t, uint64(seed), conf, gro, &counts)
				m.trains()
				for step := range steps {
					m.step(true)
					if t.Failed() {
						t.Fatalf("at step %d: %v", step, m)
					}
				}
				m.finish()
				ran++
			})
		}
	}
	wraps(t, &counts)
	counts.leaked += max(0, fds(t)-descriptors) + max(0, ringMaps(t)-rings)
	if ran == 0 {
		t.Skip("io_uring does not work here")
	}
	for what, n := range map[string]int{
		"closes": counts.closes, "drops by the socket": counts.drops, "truncated datagrams": counts.truncated, "wraps": counts.wraps,
		"receives without buffers": counts.noBuffers, "overflows": counts.overflows, "datagrams in a closed ring": counts.unseen,
	} {
		if n == 0 {
			t.Errorf("no %s: this shows less than it should", what)
		}
	}
	hostile.Result{Kind: "kernel", Fault: "random sends, receives, holds and closes on a ring, buffer by buffer against a model",
		Tries: counts.steps, Lost: counts.lost, Corrupt: counts.corrupt, Leaked: counts.leaked,
		Bound: fmt.Sprintf("each of 1–32 buffers has one owner after each step; of %d units %d delivered, %d truncated, %d dropped by the socket (SO_MEMINFO), %d in one of %d closed rings; "+
			"%d receives without buffers, %d overflows, tail wrapped %d times; %d descriptors before and %d after",
			counts.units, counts.delivered, counts.truncated, counts.drops, counts.unseen, counts.closes,
			counts.noBuffers, counts.overflows, counts.wraps, descriptors, fds(t))}.Report(t)
}

// wraps has models go past the 16 bits of the buffers' tail.
func wraps(t *testing.T, counts *modelCounts) {
	for _, buffers := range []int{1, 32} {
		t.Run(fmt.Sprintf("wrap,buffers=%d", buffers), func(t *testing.T) {
			m := newModel(t, 0, Config{Buffers: buffers, Payload: 100}, false, counts)
			for near := 1<<16 - 3*buffers; int(m.r.bufs.tail) < near; {
				m.send(8, min(64, near-int(m.r.bufs.tail)))
				for len(m.sent) > 0 && !t.Failed() {
					m.receive()
					for m.next() {
						m.release(0)
					}
				}
			}
			m.check()
			m.gro = true
			m.trains()
			for m.r.bufs.tail >= 1<<15 || m.r.bufs.head >= 1<<15 {
				m.step(false)
				if t.Failed() {
					t.Fatal(m)
				}
			}
			counts.wraps++
			m.finish()
		})
	}
}

// step is one of a random schedule.
func (m *model) step(closes bool) {
	m.t.Helper()
	n := len(m.r.bufs.slots)
	switch m.rand.IntN(24) {
	case 0, 1, 2:
		m.send(m.length(), 1)
	case 3, 4:
		m.send(8+m.rand.IntN(min(m.room, 900)), 2+m.rand.IntN(63))
	case 5: // more than there are buffers
		for range 1 + m.rand.IntN(3*n) {
			m.send(m.length(), 1)
		}
	case 6:
		m.squeeze()
	case 7, 8, 9, 10, 11:
		m.receive()
	case 12, 13, 14, 15:
		for range 1 + m.rand.IntN(n) {
			if !m.next() {
				break
			}
		}
	case 16: // in order, one
		if len(m.held) > 0 {
			m.release(0)
		}
	case 17: // the last first, some
		for range m.rand.IntN(n + 1) {
			if len(m.held) > 0 {
				m.release(len(m.held) - 1)
			}
		}
	case 18, 19: // any
		for range m.rand.IntN(n + 1) {
			if len(m.held) > 0 {
				m.release(m.rand.IntN(len(m.held)))
			}
		}
	case 20: // all at once
		m.releaseAll()
	case 21: // a read with a deadline
		m.read(time.Duration(m.rand.IntN(2)) * time.Millisecond)
	case 22: // all that there is, each given back at once
		for !m.drainOnce() {
			m.check()
		}
	case 23:
		if closes && m.rand.IntN(4) == 0 {
			m.close(true)
		}
	}
	m.check()
}

// length is that of a datagram: empty, short, as long as it may be, or longer.
func (m *model) length() int {
	switch m.rand.IntN(8) {
	case 0:
		return 0
	case 1:
		return min(m.room, maxUDP)
	case 2:
		return min(m.room+1, maxUDP)
	case 3:
		return min(m.room+8+m.rand.IntN(1000), maxUDP)
	}
	return 8 + m.rand.IntN(min(m.room, 1500)-7)
}

// maxUDP is the longest payload of a datagram over IPv4.
const maxUDP = 65507

func (m *model) releaseAll() {
	for len(m.held) > 0 {
		m.release(0)
	}
}

// squeeze has the socket drop some of a burst, for a receive buffer of the least size.
func (m *model) squeeze() {
	if err := unix.SetsockoptInt(m.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil {
		m.t.Fatal(err)
	}
	for range 1 + m.rand.IntN(20) {
		m.send(m.length(), 1)
	}
	m.send(8, 2+m.rand.IntN(63))
	// Without the right to it the buffer stays small, and drops more.
	_ = unix.SetsockoptInt(m.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
}

// read waits for a datagram until a deadline, and holds what comes.
func (m *model) read(patience time.Duration) {
	poll := []unix.PollFd{{Fd: int32(m.fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(poll, int(patience.Milliseconds())); n == 0 || err != nil {
		return
	}
	m.receive()
	m.next()
}

// drainOnce receives, takes and gives back all, and tells whether that was the queue's end.
func (m *model) drainOnce() bool {
	m.releaseAll()
	for m.next() {
		m.release(len(m.held) - 1)
	}
	m.receive()
	for m.next() {
		m.release(len(m.held) - 1)
	}
	return m.r.Drained()
}

// finish takes all that was sent, and wants it accounted for, and closes.
func (m *model) finish() {
	m.t.Helper()
	for {
		for !m.drainOnce() {
			m.check()
		}
		m.check()
		poll := []unix.PollFd{{Fd: int32(m.fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(poll, 20); n == 0 && err == nil {
			break // loopback has delivered all
		}
	}
	m.close(false)
	m.account()
}

// ringMaps is the number of mappings of rings.
func ringMaps(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), "[io_uring]")
}
