package soak

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/bench/netlab"
)

// floodRate is how many datagrams a second a burst has. It is more than a reader takes that
// has to look at each, and no more than a processor sends beside the load.
const floodRate = 20_000

// pace calls f n times, at floodRate.
func pace(ctx context.Context, n int, f func() error) error {
	const batch = 100
	begin := time.Now()
	for i := range n {
		if i%batch == 0 {
			time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / floodRate)))
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
		// Buffers that are full for a moment, and what a datagram before has met.
		if err := f(); err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.ECONNREFUSED) {
			return err
		}
	}
	return nil
}

// garbage sends random datagrams from a host: some look like QUIC's in their first byte, and
// some have a version that there is, or connection IDs of many lengths.
func garbage(ctx context.Context, from netlab.Host, to netip.AddrPort, n int, rng *rand.Rand) error {
	var conn *net.UDPConn
	err := from.Do(func() (err error) {
		conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
		return err
	})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	p := make([]byte, 1400)
	return pace(ctx, n, func() error {
		p := p[:1+rng.IntN(len(p))]
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		const long, fixed, version1 = 0x80, 0x40, 1
		if kind := rng.IntN(3); kind > 0 {
			p[0] |= fixed
			if kind == 2 && len(p) > 6 {
				p[0] |= long
				binary.BigEndian.PutUint32(p[1:], version1)
				p[5] = byte(rng.IntN(24))
			}
		}
		_, err := conn.Write(p)
		return err
	})
}

// A recorder is a socket that keeps what is sent by it. Its buffers are those of another
// socket: quic-go (v0.65.0) would say on standard error that there are none.
type recorder struct {
	sent    chan []byte
	done    chan struct{}
	buffers *net.UDPConn
}

func (r *recorder) SyscallConn() (syscall.RawConn, error) { return r.buffers.SyscallConn() }
func (r *recorder) SetReadBuffer(n int) error             { return r.buffers.SetReadBuffer(n) }
func (r *recorder) SetWriteBuffer(n int) error            { return r.buffers.SetWriteBuffer(n) }

func (r *recorder) WriteTo(p []byte, _ net.Addr) (int, error) {
	select {
	case r.sent <- append([]byte(nil), p...):
	default:
	}
	return len(p), nil
}

func (r *recorder) ReadFrom([]byte) (int, net.Addr, error) {
	<-r.done
	return 0, nil, net.ErrClosed
}

func (r *recorder) Close() error                     { return nil }
func (r *recorder) LocalAddr() net.Addr              { return &net.UDPAddr{IP: net.IPv4zero, Port: 1} }
func (r *recorder) SetDeadline(time.Time) error      { return nil }
func (r *recorder) SetReadDeadline(time.Time) error  { return nil }
func (r *recorder) SetWriteDeadline(time.Time) error { return nil }

// helloDatagrams are those of the first flight of a client that nobody answers.
func helloDatagrams(ctx context.Context, buffers *net.UDPConn) ([][]byte, error) {
	r := &recorder{sent: make(chan []byte, 8), done: make(chan struct{}), buffers: buffers}
	tr := &quic.Transport{Conn: r}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		conf := quicConfig()
		conf.DisablePathMTUDiscovery = true
		_, _ = tr.Dial(ctx, &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, anyCert(), conf) // ends with ctx
	}()
	defer func() {
		cancel()
		<-ended
		close(r.done)
		_ = tr.Close()
	}()
	var flight [][]byte
	select {
	case p := <-r.sent:
		flight = append(flight, p)
	case <-ended:
		return nil, errors.New("a client sent nothing")
	}
	for { // the rest of it, if the ClientHello has more than a datagram
		select {
		case p := <-r.sent:
			flight = append(flight, p)
		case <-time.After(5 * time.Millisecond):
			return flight, nil
		}
	}
}

// helloMakers is how many ClientHellos are made at a time: most of it is waiting for more of
// each.
const helloMakers = 16

// hellos makes n flights, each with keys and connection IDs of its own: a server that gets a
// second Initial for the ID of a first would take it for the same client's.
func hellos(ctx context.Context, n int) ([][][]byte, error) {
	buffers, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	defer func() { _ = buffers.Close() }()
	flights, errs := make([][][]byte, n), make([]error, n)
	turn := make(chan struct{}, helloMakers)
	var all sync.WaitGroup
	for i := range flights {
		turn <- struct{}{}
		all.Go(func() {
			defer func() { <-turn }()
			flights[i], errs[i] = helloDatagrams(ctx, buffers)
		})
	}
	all.Wait()
	return flights, errors.Join(errs...)
}

// initials sends ClientHellos from addresses that do not answer.
func initials(ctx context.Context, from netlab.Host, to netip.AddrPort, n int, rng *rand.Rand) error {
	flights, err := hellos(ctx, n)
	if err != nil {
		return err
	}
	send, done, err := spoofer(from, to)
	if err != nil {
		return err
	}
	defer done()
	i := 0
	return pace(ctx, n, func() error {
		source := stranger(from.Addr, rng)
		for _, p := range flights[i] {
			if err := send(source, p); err != nil {
				return err
			}
		}
		i++
		return nil
	})
}

// stranger is an address in the network of a host that is not its own, and a port.
func stranger(like netip.Addr, rng *rand.Rand) netip.AddrPort {
	a := like.As4()
	a[2], a[3] = byte(64+rng.IntN(64)), byte(1+rng.IntN(254))
	return netip.AddrPortFrom(netip.AddrFrom4(a), uint16(1024+rng.IntN(60_000)))
}

// spoofer sends datagrams from any address, by a raw socket, for which the process must be
// root; otherwise from ports of our own that are closed at once.
func spoofer(from netlab.Host, to netip.AddrPort) (send func(source netip.AddrPort, p []byte) error, done func(), err error) {
	fd := -1
	err = from.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return os.NewSyscallError("socket", err)
	})
	switch {
	case errors.Is(err, unix.EPERM):
		return func(_ netip.AddrPort, p []byte) error {
			conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
			if err != nil {
				return err
			}
			_, err = conn.Write(p)
			return errors.Join(err, conn.Close())
		}, func() {}, nil
	case err != nil:
		return nil, nil, err
	}
	at := &unix.SockaddrInet4{Addr: to.Addr().As4()}
	return func(source netip.AddrPort, p []byte) error {
		return os.NewSyscallError("sendto", unix.Sendto(fd, udpPacket(source, to, p), 0, at))
	}, func() { _ = unix.Close(fd) }, nil
}

// udpPacket is an IPv4 packet with a datagram. The kernel fills in the length, the checksum
// of the header and the identification (raw(7)).
func udpPacket(from, to netip.AddrPort, payload []byte) []byte {
	const ipHeader, udpHeader, ttl = 20, 8, 64
	b := make([]byte, ipHeader+udpHeader, ipHeader+udpHeader+len(payload))
	b[0], b[8], b[9] = 4<<4|ipHeader/4, ttl, unix.IPPROTO_UDP
	src, dst := from.Addr().As4(), to.Addr().As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	udp := b[ipHeader:]
	binary.BigEndian.PutUint16(udp, from.Port())
	binary.BigEndian.PutUint16(udp[2:], to.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(udpHeader+len(payload)))
	b = append(b, payload...)
	sum := uint32(unix.IPPROTO_UDP) + uint32(udpHeader+len(payload)) // the pseudo header (RFC 768)
	for _, part := range [][]byte{b[12:20], b[ipHeader:]} {
		for i := 0; i+1 < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
		if len(part)%2 == 1 {
			sum += uint32(part[len(part)-1]) << 8
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	check := ^uint16(sum)
	if check == 0 {
		check = 0xffff
	}
	binary.BigEndian.PutUint16(b[ipHeader+6:], check)
	return b
}
