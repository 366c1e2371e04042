package recv

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/udp"
)

// A reader reads batches of datagrams.
type reader interface {
	// read returns how many of the messages it filled.
	read(ms []ipv4.Message) (int, error)
	// conn is the socket, for what all readers need of it.
	conn() socket
	// counts are system calls that read, and receives (trains or datagrams),
	// 0 if it cannot tell.
	counts() (calls, receives uint64)
}

// socket is what net.UDPConn and udp.Conn have in common here.
type socket interface {
	net.PacketConn
	SyscallConn() (syscall.RawConn, error)
}

// newReader opens a socket for a reader of the given name.
func newReader(name string, host netip.Addr, buffer int) (reader, error) {
	addr := netip.AddrPortFrom(host, 0).String()
	base, gro := strings.CutSuffix(name, "-gro")
	switch base {
	case "uring", "auto", "paced", "unpaced":
		opts := []udp.Option{udp.WithGRO(gro || base != "uring")}
		switch base {
		case "uring":
			opts = append(opts, udp.WithBackend(udp.Uring))
		case "paced":
			opts = append(opts, udp.WithBackend(udp.Mmsg))
		case "unpaced":
			opts = append(opts, udp.WithBackend(udp.Mmsg), udp.WithModeration(0))
		}
		c, err := udp.Listen("udp4", addr, opts...)
		if err != nil {
			return nil, err
		}
		if err := c.SetReadBuffer(buffer); err != nil {
			return nil, err
		}
		return &connReader{c}, nil
	case "stock", "mmsg", "msg":
	default:
		return nil, fmt.Errorf("no reader %q", name)
	}
	pc, err := net.ListenPacket("udp4", addr)
	if err != nil {
		return nil, err
	}
	c := pc.(*net.UDPConn) //nolint:forcetypeassert // of network udp4
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var groErr error
	if err := raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
		}
		if gro {
			groErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1)
		}
	}); err != nil {
		return nil, err
	}
	switch {
	case groErr != nil:
		return nil, fmt.Errorf("GRO: %w", groErr)
	case base == "msg":
		return &msgReader{c: c, buf: make([]byte, 1<<16), oob: make([]byte, 128)}, nil
	case gro:
		return newBatchReader(c), nil
	}
	return &stockReader{c: c, b: ipv4.NewPacketConn(c)}, nil
}

// A connReader is a udp.Conn.
type connReader struct{ c *udp.Conn }

func (r *connReader) read(ms []ipv4.Message) (int, error) { return r.c.ReadBatch(ms, 0) }
func (r *connReader) conn() socket                        { return r.c }
func (r *connReader) counts() (calls, receives uint64) {
	st := r.c.Stats()
	return st.Enters, st.Receives
}

// A stockReader is what quic-go (v0.65.0) does with a *net.UDPConn.
type stockReader struct {
	c *net.UDPConn
	b *ipv4.PacketConn
}

func (r *stockReader) read(ms []ipv4.Message) (int, error) { return r.b.ReadBatch(ms, 0) }
func (r *stockReader) conn() socket                        { return r.c }
func (r *stockReader) counts() (calls, receives uint64)    { return 0, 0 }

// A msgReader reads by recvmsg, as package net offers it.
type msgReader struct {
	c        *net.UDPConn
	buf, oob []byte
	rest     []byte
	segment  int
	receives atomic.Uint64
}

func (r *msgReader) read(ms []ipv4.Message) (int, error) {
	if len(r.rest) == 0 {
		n, oobn, _, _, err := r.c.ReadMsgUDPAddrPort(r.buf, r.oob)
		if err != nil {
			return 0, err
		}
		r.receives.Add(1)
		r.rest, r.segment = r.buf[:n], segmentSize(r.oob[:oobn], n)
	}
	var n int
	r.rest, n = takeApart(r.rest, r.segment, ms)
	return n, nil
}

func (r *msgReader) conn() socket { return r.c }

func (r *msgReader) counts() (calls, receives uint64) {
	n := r.receives.Load()
	return n, n
}

// A batchReader is x/net's ReadBatch with GRO: recvmmsg as one would write it.
type batchReader struct {
	c        *net.UDPConn
	b        *ipv4.PacketConn
	ms       []ipv4.Message
	got, pos int
	rest     []byte
	segment  int
	calls    atomic.Uint64
	receives atomic.Uint64
}

func newBatchReader(c *net.UDPConn) *batchReader {
	r := &batchReader{c: c, b: ipv4.NewPacketConn(c), ms: make([]ipv4.Message, 8)}
	for i := range r.ms {
		r.ms[i].Buffers = [][]byte{make([]byte, 1<<16)}
		r.ms[i].OOB = make([]byte, 128)
	}
	return r
}

func (r *batchReader) read(ms []ipv4.Message) (int, error) {
	n := 0
	for n < len(ms) {
		if len(r.rest) == 0 {
			if r.pos == r.got {
				if n > 0 {
					break
				}
				got, err := r.b.ReadBatch(r.ms, 0)
				if err != nil {
					return 0, err
				}
				r.got, r.pos = got, 0
				r.calls.Add(1)
				r.receives.Add(uint64(got))
			}
			m := &r.ms[r.pos]
			r.pos++
			r.rest, r.segment = m.Buffers[0][:m.N], segmentSize(m.OOB[:m.NN], m.N)
		}
		var k int
		r.rest, k = takeApart(r.rest, r.segment, ms[n:])
		n += k
	}
	return n, nil
}

func (r *batchReader) conn() socket { return r.c }

func (r *batchReader) counts() (calls, receives uint64) { return r.calls.Load(), r.receives.Load() }

// takeApart copies datagrams of a train into messages, and returns what is left.
func takeApart(train []byte, segment int, ms []ipv4.Message) (rest []byte, n int) {
	for len(train) > 0 && n < len(ms) {
		k := min(segment, len(train))
		ms[n].N = copy(ms[n].Buffers[0], train[:k])
		train = train[k:]
		n++
	}
	return train, n
}

// segmentSize is the length of a train's datagrams: UDP_GRO of the control
// messages, or all of it.
func segmentSize(oob []byte, n int) int {
	for len(oob) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		if h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(data) >= 4 {
			return int(binary.NativeEndian.Uint32(data))
		}
		oob = rest
	}
	return max(1, n)
}
