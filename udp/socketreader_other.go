//go:build !linux

package udp

import (
	"errors"
	"net"
	"net/netip"

	"github.com/tailfin-quic/tailfin/uring"
)

// haveMmsg tells whether the system has recvmmsg(2) as Linux has it.
const haveMmsg = false

// oobSize is the room for control messages of one datagram.
const oobSize = 256

// A socketReader reads one datagram at a time, through package net.
type socketReader struct {
	socket *net.UDPConn
	stats  *counters
	buf    []byte
	oob    []byte
	pkt    packet
	ready  bool
	addrs  map[netip.AddrPort]*net.UDPAddr
}

// maxCachedAddrs bounds the addresses that a reader keeps.
const maxCachedAddrs = 4096

func newSocketReader(socket *net.UDPConn, _ Backend, _ bool, stats *counters) (*socketReader, error) {
	return &socketReader{
		socket: socket, stats: stats,
		buf: make([]byte, 65535), oob: make([]byte, oobSize),
		addrs: make(map[netip.AddrPort]*net.UDPAddr),
	}, nil
}

func (r *socketReader) next() (packet, bool) {
	if !r.ready {
		return packet{}, false
	}
	r.ready = false
	return r.pkt, true
}

func (r *socketReader) wait() error {
	r.stats.enters.Add(1)
	n, oobn, _, from, err := r.socket.ReadMsgUDPAddrPort(r.buf, r.oob)
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

// stop has nothing to end: a receive is over when wait returns.
func (r *socketReader) stop() {}

func enableGRO(*net.UDPConn) error { return errors.ErrUnsupported }

func forceReadBuffer(*net.UDPConn, int) error { return errors.ErrUnsupported }

func kernelDrops(*net.UDPConn) uint64 { return 0 }

func uringWorks() error { return errNoUring }

var errNoUring = errors.New("io_uring is of Linux")

// A uringReader is never made here.
type uringReader struct{ source }

func newUringReader(*net.UDPConn, *gate, bool, int) (*uringReader, error) { return nil, errNoUring }

func (*uringReader) wait() error        { return errNoUring }
func (*uringReader) stop()              {}
func (*uringReader) wake()              {}
func (*uringReader) close(*lane)        {}
func (*uringReader) stats() uring.Stats { return uring.Stats{} }
