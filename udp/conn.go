package udp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/tailfin-quic/tailfin/uring"
)

// A Conn is a UDP socket that is read in batches. It is a net.PacketConn, and
// has what quic-go looks for: give it to quic.Transport as Conn.
//
// Its methods may be called from several goroutines. Reads take turns.
type Conn struct {
	sock *socket
	way  atomic.Pointer[way]

	inspectors inspectors

	gro   bool
	stats counters
	main  *lane
	gate  gate
	yield yielder         // of whoever reads
	inbox inbox           // of a shard, and for Inspection.Deliver
	ring  *uring.Receiver // for its Stats, which outlive it; nil without
	log   *slog.Logger    // nil for none

	mu    sync.Mutex    // orders changes of the read deadline, and Close
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
	return listen(network, address, o, false)
}

// listen is Listen, for a shard shareable.
func listen(network, address string, o options, shared bool) (*Conn, error) {
	switch network {
	case "udp", "udp4", "udp6":
	default:
		return nil, fmt.Errorf("udp: network %q; use udp, udp4 or udp6", network)
	}
	var lc net.ListenConfig
	if shared {
		lc.Control = shareable
	}
	pc, err := lc.ListenPacket(context.Background(), network, address)
	if err != nil {
		return nil, explainOpen(err)
	}
	c, ok := pc.(*net.UDPConn)
	if !ok {
		_ = pc.Close()
		return nil, fmt.Errorf("udp: listening on %s %s gave a %T", network, address, pc)
	}
	conn, err := wrap(c, o)
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return conn, nil
}

// Wrap takes a socket over that package net has opened, with its options and
// what it has received. If there is no error c must not be used any more: it is
// closed, and the socket lives on in the Conn. Otherwise c is as it was.
func Wrap(c *net.UDPConn, opts ...Option) (*Conn, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	return wrap(c, o)
}

func wrap(c *net.UDPConn, o options) (*Conn, error) {
	sock, err := takeOver(c)
	if err != nil {
		return nil, fmt.Errorf("udp: take over %v: %w", c.LocalAddr(), explainOpen(err))
	}
	conn := &Conn{sock: sock, log: o.log}
	if err := conn.choose(o); err != nil {
		sock.release()
		return nil, explainOpen(err)
	}
	sock.keep(c)
	return conn, nil
}

// Backend is the backend in use, never Auto. It changes if io_uring fails at
// run time and Auto goes on without it.
func (c *Conn) Backend() Backend { return c.way.Load().backend }

// Reason says in a few words why that backend is in use.
func (c *Conn) Reason() string { return c.way.Load().reason }

// GRO tells whether the kernel hands over trains of datagrams.
func (c *Conn) GRO() bool { return c.gro }

// ReadBatch reads at least one datagram and as many more as are there, one a
// message. It sets N, NN, Flags and Addr of each, of which Addr is shared and
// must not be changed. Buffers must hold one buffer each. A datagram that does
// not fit its message is dropped and counted (Stats.Truncated). flags must be 0.
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
	if err != nil {
		return 0, c.opError("read", err)
	}
	return n, nil
}

// ReadMsgUDP reads one datagram and its control messages, as
// net.UDPConn.ReadMsgUDP does. What does not fit is cut off; flags has MSG_TRUNC then.
func (c *Conn) ReadMsgUDP(p, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error) {
	n, oobn, flags, addr, err = c.main.read(p, oob)
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

// WriteTo sends one datagram.
func (c *Conn) WriteTo(p []byte, addr net.Addr) (int, error) {
	to, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0, &net.OpError{Op: "write", Net: "udp", Source: c.LocalAddr(), Addr: addr,
			Err: fmt.Errorf("an address of type %T; use *net.UDPAddr", addr)}
	}
	n, _, err := c.WriteMsgUDP(p, nil, to)
	return n, err
}

// WriteMsgUDP sends one datagram with control messages, or with UDP_SEGMENT
// (GSO) a train of them. addr is nil on a connected socket (see Wrap). It
// blocks while the send buffer is full, until the write deadline. What the
// kernel lacks memory for is lost as if on the way, and counted
// (Stats.SendDrops); it is an error only after many in a row.
func (c *Conn) WriteMsgUDP(p, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	c.stats.sends.Add(1)
	return c.sock.writeMsg(p, oob, addr)
}

// LocalAddr is the address of the socket, a *net.UDPAddr.
func (c *Conn) LocalAddr() net.Addr { return c.sock.local }

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
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gate.closed.Load() {
		return c.opError("set", net.ErrClosed)
	}
	c.gate.set(t)
	return c.opError("set", c.main.r.setDeadline(t))
}

// SetWriteDeadline sets when writes fail with os.ErrDeadlineExceeded, those
// that are blocked now too. The zero time is never.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.opError("set", c.sock.setWriteDeadline(t))
}

// SyscallConn gives access to the socket. Reading from it bypasses the Conn.
// On Linux its descriptor is in blocking mode: pass MSG_DONTWAIT.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.sock.syscallConn() }

// SetWriteBuffer sets the size of the send buffer, in bytes.
func (c *Conn) SetWriteBuffer(bytes int) error {
	return c.opError("set", c.sock.setWriteBuffer(bytes))
}

// SetReadBuffer sets the size of the receive buffer, in bytes. With
// CAP_NET_ADMIN it may exceed net.core.rmem_max (SO_RCVBUFFORCE).
func (c *Conn) SetReadBuffer(bytes int) error {
	if c.sock.forceReadBuffer(bytes) == nil {
		return nil
	}
	return c.opError("set", c.sock.setReadBuffer(bytes))
}

// Stats returns the counts so far. It may be called at any time.
func (c *Conn) Stats() Stats {
	s := c.stats.snapshot()
	way := c.way.Load()
	s.Backend, s.Reason = way.backend, way.reason
	s.SendDrops = c.sock.sendDrops()
	s.KernelDrops = max(c.sock.kernelDrops(), c.drops.Load()) // a closed socket cannot be asked
	if c.ring != nil {
		u := c.ring.Stats()
		s.Enters += u.Enters
		s.Rearms, s.NoBuffers, s.Overflows = u.Rearms, u.NoBuffers, u.Overflows
		s.Truncated += u.Truncated
		s.Failed += u.Failed
	}
	return s
}

// Close ends blocked reads and writes with net.ErrClosed and closes the socket,
// whose port is free when Close returns. Datagrams that were not read are lost.
func (c *Conn) Close() error {
	c.mu.Lock()
	first := c.gate.closed.CompareAndSwap(false, true)
	if first {
		c.main.r.interrupt()
	}
	c.mu.Unlock()
	if !first {
		return c.opError("close", net.ErrClosed)
	}
	c.main.mu.Lock() // the reader has gone
	defer c.main.mu.Unlock()
	c.drops.Store(c.sock.kernelDrops())
	c.main.r.free()
	return c.sock.close()
}

// opError wraps an error, if there is one, as package net does. What it wraps
// keeps what it is, for errors.Is and for net.Error.
func (c *Conn) opError(op string, err error) error {
	if err == nil {
		return nil
	}
	var already *net.OpError
	if errors.As(err, &already) {
		return err
	}
	return &net.OpError{Op: op, Net: "udp", Source: c.LocalAddr(), Err: err}
}
