package peer

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// Record makes connections between two ends of quic-go on loopback and returns the
// datagrams of both: Initial, Handshake, 0-RTT and 1-RTT packets, Retry packets and
// version negotiation. Nobody knows their keys any more.
func Record(ctx context.Context, cert tls.Certificate) ([][]byte, error) {
	r := &recorder{}
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: loopback})
	if err != nil {
		return nil, err
	}
	defer func() { _ = socket.Close() }()
	retry := &retrySwitch{}
	server := &quic.Transport{Conn: &recordedConn{packetConn{socket, socket}, r}, VerifySourceAddress: retry.ask}
	defer func() { _ = server.Close() }()
	ln, err := server.ListenEarly(&tls.Config{
		Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{alpn},
	}, &quic.Config{Allow0RTT: true})
	if err != nil {
		return nil, err
	}
	defer func() { _ = ln.Close() }()
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { echo(ctx, ln) })
	conf := &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // both ends are ours
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{alpn},
		ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}
	for i := range 3 { // full, resumed with 0-RTT, and after a Retry
		retry.set(i == 2)
		if err := recordOne(ctx, socket.LocalAddr(), conf, r); err != nil {
			return nil, fmt.Errorf("recorded connection %d: %w", i, err)
		}
	}
	if err := recordNegotiation(socket.LocalAddr(), r); err != nil {
		return nil, err
	}
	return r.all(), nil
}

// recordOne is a connection with one exchange.
func recordOne(ctx context.Context, addr net.Addr, conf *tls.Config, r *recorder) error {
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: loopback})
	if err != nil {
		return err
	}
	defer func() { _ = socket.Close() }()
	client := &quic.Transport{Conn: &recordedConn{packetConn{socket, socket}, r}}
	defer func() { _ = client.Close() }()
	conn, err := client.DialEarly(ctx, addr, conf, &quic.Config{})
	if err != nil {
		return err
	}
	defer func() { _ = conn.CloseWithError(0, "") }()
	str, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return err
	}
	if _, err := str.Write(Pattern(3000)); err != nil {
		return err
	}
	_ = str.Close()
	_ = str.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 1)
	for { // the session ticket comes before the answer ends
		if _, err := str.Read(buf); err != nil {
			return nil // 0-RTT may have been refused: what matters was recorded
		}
	}
}

// echo sends back what comes on each stream.
func echo(ctx context.Context, ln *quic.EarlyListener) {
	for {
		conn, err := ln.Accept(ctx)
		if err != nil {
			return
		}
		go func() {
			for {
				str, err := conn.AcceptStream(ctx)
				if err != nil {
					return
				}
				buf := make([]byte, 4096)
				for {
					n, err := str.Read(buf)
					_, _ = str.Write(buf[:n])
					if err != nil {
						break
					}
				}
				_ = str.Close()
			}
		}()
	}
}

// recordNegotiation asks for a version that there is not.
func recordNegotiation(addr net.Addr, r *recorder) error {
	conn, err := net.Dial("udp4", addr.String())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ask := make([]byte, minInitial)
	copy(ask, []byte{0xc0, 0x0a, 0x0a, 0x0a, 0x0a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 4, 1, 2, 3, 4})
	if _, err := conn.Write(ask); err != nil {
		return err
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, maxDatagram)
	n, err := conn.Read(buf)
	if err != nil {
		return fmt.Errorf("no version negotiation: %w", err)
	}
	r.add(ask)
	r.add(buf[:n])
	return nil
}

// A retrySwitch tells whether clients must prove their address.
type retrySwitch struct {
	mu sync.Mutex
	on bool
}

func (s *retrySwitch) set(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on = on
}

func (s *retrySwitch) ask(net.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.on
}

// A recorder keeps datagrams.
type recorder struct {
	mu   sync.Mutex
	list [][]byte
}

// maxRecorded bounds a recording.
const maxRecorded = 1000

func (r *recorder) add(p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.list) < maxRecorded {
		r.list = append(r.list, slices.Clone(p))
	}
}

func (r *recorder) all() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

// A recordedConn records what is sent on it.
type recordedConn struct {
	packetConn
	r *recorder
}

func (c *recordedConn) WriteTo(p []byte, addr net.Addr) (int, error) {
	c.r.add(p)
	return c.packetConn.WriteTo(p, addr)
}
