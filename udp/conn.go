package udp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
)

// A Conn is a UDP socket that is read in batches. It is a net.PacketConn, and
// has what quic-go looks for: give it to quic.Transport as Conn.
//
// With the Uring backend the goroutine that first reads is locked to its
// thread for good, and owns the ring; quic-go reads from one goroutine only.
// Reads from other goroutines work too, by recvmsg(2).
type Conn struct {
	udp     *net.UDPConn
	backend Backend
	reason  string
	gro     bool
	stats   counters

	main  *lane
	uring *uringReader // the reader of main with the Uring backend, else nil

	aside   sync.Once // makes side
	side    *lane     // for readers that do not own the ring
	sideErr error

	gate  gate
	drops atomic.Uint64 // by the kernel, as of Close
}

var _ net.PacketConn = (*Conn)(nil)

// Listen opens a UDP socket on a local address, as net.ListenPacket does for
// the networks udp, udp4 and udp6, and decides how to read from it.
//
// An address that cannot be used is a *net.OpError or *net.AddrError. A backend
// that was asked for by name and does not work is an error that says why.
func Listen(network, address string, opts ...Option) (*Conn, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	switch network {
	case "udp", "udp4", "udp6":
	default:
		return nil, fmt.Errorf("udp: network %q; use udp, udp4 or udp6", network)
	}
	pc, err := (&net.ListenConfig{}).ListenPacket(context.Background(), network, address)
	if err != nil {
		return nil, err
	}
	socket, ok := pc.(*net.UDPConn)
	if !ok {
		_ = pc.Close()
		return nil, fmt.Errorf("udp: listening on %s %s gave a %T", network, address, pc)
	}
	c := &Conn{udp: socket}
	if err := c.choose(o); err != nil {
		_ = socket.Close()
		return nil, err
	}
	return c, nil
}

// Backend is the backend in use, never Auto.
func (c *Conn) Backend() Backend { return c.backend }

// Reason says in a few words why that backend is in use.
func (c *Conn) Reason() string { return c.reason }

// GRO tells whether the kernel hands over trains of datagrams.
func (c *Conn) GRO() bool { return c.gro }

// ReadBatch reads at least one datagram and as many more as are there, one a
// message. It sets N, NN, Flags and Addr of each, of which Addr is shared and
// must not be changed. Buffers must hold one buffer each. A datagram that does not fit
// its message is dropped and counted (Stats.Truncated). flags must be 0.
func (c *Conn) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	if flags != 0 {
		return 0, c.opError("read", fmt.Errorf("flags %#x are not supported; use 0", flags))
	}
	if len(ms) == 0 {
		return 0, c.opError("read", errors.New("no messages to read into"))
	}
	for i := range ms {
		if len(ms[i].Buffers) != 1 {
			return 0, c.opError("read", fmt.Errorf("message %d has %d buffers; give one", i, len(ms[i].Buffers)))
		}
	}
	n, err := c.main.readBatch(ms)
	if err == errForeign { //nolint:errorlint // our own sentinel, never wrapped, on the hot path
		side, serr := c.sideLane()
		if serr != nil {
			return 0, c.opError("read", serr)
		}
		n, err = side.readBatch(ms)
	}
	if err != nil {
		return 0, c.opError("read", err)
	}
	return n, nil
}

// ReadMsgUDP reads one datagram and its control messages, as
// net.UDPConn.ReadMsgUDP does. What does not fit is cut off; flags has MSG_TRUNC then.
func (c *Conn) ReadMsgUDP(p, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error) {
	n, oobn, flags, addr, err = c.main.read(p, oob)
	if err == errForeign { //nolint:errorlint // our own sentinel, never wrapped
		var side *lane
		if side, err = c.sideLane(); err == nil {
			n, oobn, flags, addr, err = side.read(p, oob)
		}
	}
	if err != nil {
		return 0, 0, 0, nil, c.opError("read", err)
	}
	return n, oobn, flags, addr, nil
}

// ReadFrom reads one datagram. What does not fit into p is cut off, as package
// net does. Without GRO a datagram of more than 2048 bytes is dropped and
// counted (Stats.Truncated) however long p is: no QUIC packet is.
func (c *Conn) ReadFrom(p []byte) (int, net.Addr, error) {
	n, _, _, addr, err := c.ReadMsgUDP(p, nil)
	if err != nil {
		return 0, nil, err
	}
	return n, addr, nil
}

// sideLane is the way in for readers that the ring does not serve.
func (c *Conn) sideLane() (*lane, error) {
	c.aside.Do(func() {
		r, err := newSocketReader(c.udp, Msg, c.gro, &c.stats)
		if err != nil {
			c.sideErr = err
			return
		}
		c.side = newLane(r, &c.gate, &c.stats)
	})
	return c.side, c.sideErr
}

// WriteTo sends one datagram.
func (c *Conn) WriteTo(p []byte, addr net.Addr) (int, error) {
	c.stats.sends.Add(1)
	return c.udp.WriteTo(p, addr)
}

// WriteMsgUDP sends one datagram with control messages, or with UDP_SEGMENT
// (GSO) a train of them.
func (c *Conn) WriteMsgUDP(p, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	c.stats.sends.Add(1)
	return c.udp.WriteMsgUDP(p, oob, addr)
}

// LocalAddr is the address of the socket.
func (c *Conn) LocalAddr() net.Addr { return c.udp.LocalAddr() }

// SetDeadline sets the deadlines of reads and writes.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline sets when reads fail with os.ErrDeadlineExceeded, those
// that are blocked now too. The zero time is never. Datagrams that have
// arrived are kept for later reads.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if c.gate.closed.Load() {
		return c.opError("set", net.ErrClosed)
	}
	c.gate.set(t)
	if c.uring != nil {
		c.uring.wake()
	}
	return c.udp.SetReadDeadline(t)
}

// SetWriteDeadline sets when writes fail.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.udp.SetWriteDeadline(t) }

// SyscallConn gives access to the socket. Reading from it bypasses the Conn.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.udp.SyscallConn() }

// SetWriteBuffer sets the size of the send buffer, in bytes.
func (c *Conn) SetWriteBuffer(bytes int) error { return c.udp.SetWriteBuffer(bytes) }

// SetReadBuffer sets the size of the receive buffer, in bytes. With
// CAP_NET_ADMIN it may exceed net.core.rmem_max (SO_RCVBUFFORCE).
func (c *Conn) SetReadBuffer(bytes int) error {
	if forceReadBuffer(c.udp, bytes) == nil {
		return nil
	}
	return c.udp.SetReadBuffer(bytes)
}

// Stats returns the counts so far. It may be called at any time.
func (c *Conn) Stats() Stats {
	s := c.stats.snapshot()
	s.KernelDrops = max(kernelDrops(c.udp), c.drops.Load()) // a closed socket cannot be asked
	if c.uring != nil {
		u := c.uring.stats()
		s.Enters += u.Enters
		s.Rearms, s.NoBuffers, s.Overflows = u.Rearms, u.NoBuffers, u.Overflows
		s.Truncated += u.Truncated
	}
	return s
}

// Close ends blocked reads with net.ErrClosed and closes the socket, whose
// port is free when Close returns. Datagrams that were not read are lost.
func (c *Conn) Close() error {
	if !c.gate.closed.CompareAndSwap(false, true) {
		return c.opError("close", net.ErrClosed)
	}
	if c.uring != nil {
		c.uring.close(c.main)
	}
	c.drops.Store(kernelDrops(c.udp))
	return c.udp.Close()
}

// opError wraps an error as package net does. What it wraps keeps what it is,
// for errors.Is and for net.Error.
func (c *Conn) opError(op string, err error) error {
	var already *net.OpError
	if errors.As(err, &already) {
		return err
	}
	return &net.OpError{Op: op, Net: "udp", Source: c.udp.LocalAddr(), Err: err}
}
