//go:build !linux

package udp

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"
)

// haveMmsg tells whether the system has recvmmsg(2) as Linux has it.
const haveMmsg = false

// oobSize is the room for control messages of one datagram.
const oobSize = 256

// A packetReader reads one datagram at a time, through package net.
type packetReader struct {
	socket *net.UDPConn
	stats  *counters
	buf    []byte
	oob    []byte
	pkt    packet
	ready  bool
	gate   *gate
	woken  atomic.Bool // the read deadline was passed to have a wait look at the inbox
	addrs  map[netip.AddrPort]*net.UDPAddr
}

// maxCachedAddrs bounds the addresses that a reader keeps.
const maxCachedAddrs = 4096

func newReader(c *Conn, _ Backend, _ options) (reader, error) {
	return &packetReader{
		socket: c.sock.conn, stats: &c.stats, gate: &c.gate,
		buf: make([]byte, 65535), oob: make([]byte, oobSize),
		addrs: make(map[netip.AddrPort]*net.UDPAddr),
	}, nil
}

func (r *packetReader) next() (packet, bool) {
	if !r.ready {
		return packet{}, false
	}
	r.ready = false
	return r.pkt, true
}

func (r *packetReader) wait() error {
	r.stats.enters.Add(1)
	n, oobn, _, from, err := r.socket.ReadMsgUDPAddrPort(r.buf, r.oob)
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) && r.woken.CompareAndSwap(true, false) {
		return r.socket.SetReadDeadline(r.gate.until())
	}
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			return op.Err
		}
		return err
	}
	addr := r.addrs[from]
	if addr == nil {
		if len(r.addrs) >= maxCachedAddrs {
			clear(r.addrs)
		}
		addr = net.UDPAddrFromAddrPort(from)
		r.addrs[from] = addr
	}
	r.pkt, r.ready = packet{addr: addr, payload: r.buf[:n], control: r.oob[:oobn]}, true
	return nil
}

func (r *packetReader) setDeadline(t time.Time) error { return r.socket.SetReadDeadline(t) }

func (r *packetReader) interrupt() { _ = r.socket.SetReadDeadline(time.Unix(1, 0)) }

func (r *packetReader) wake() {
	r.woken.Store(true)
	_ = r.socket.SetReadDeadline(time.Unix(1, 0))
}

func (r *packetReader) free() {}

func uringWorks() error { return errNoUring }

var errNoUring = errors.New("io_uring is of Linux")

// until is the deadline as package net takes it, the zero time for none.
func (g *gate) until() time.Time {
	left, ok := g.left()
	if !ok {
		return time.Time{}
	}
	return time.Now().Add(left)
}
