package peer

import (
	"fmt"
	"net"
	"time"

	"golang.org/x/net/ipv4"
)

// A Spoofer sends datagrams from any address of 127.0.0.0/8, one socket for all, and
// gets what is answered to any of them.
type Spoofer struct {
	conn  *net.UDPConn
	batch *ipv4.PacketConn
	to    *net.UDPAddr
}

// spoofBatch is how many datagrams go out by one system call.
const spoofBatch = 64

// NewSpoofer opens a socket toward a server on loopback.
func NewSpoofer(addr string) (*Spoofer, error) {
	to, err := net.ResolveUDPAddr("udp4", addr)
	if err != nil {
		return nil, err
	}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{})
	if err != nil {
		return nil, err
	}
	return &Spoofer{conn: conn, batch: ipv4.NewPacketConn(conn), to: to}, nil
}

// Close closes the socket.
func (s *Spoofer) Close() { _ = s.conn.Close() }

// Source is the address of number n, of 16 million.
func Source(n int) net.IP {
	n = n%(1<<24-2) + 2 // 127.0.0.1 is that of the honest
	return net.IPv4(127, byte(n>>16), byte(n>>8), byte(n))
}

// Send sends count datagrams that next makes, each from the source that it names, as fast
// as the kernel takes them. It calls between after each system call, if that is not nil.
func (s *Spoofer) Send(count int, next func(i int) (datagram []byte, from net.IP), between func()) error {
	messages := make([]ipv4.Message, spoofBatch)
	for sent := 0; sent < count; {
		n := min(count-sent, spoofBatch)
		for i := range n {
			p, from := next(sent + i)
			messages[i] = ipv4.Message{Buffers: [][]byte{p}, Addr: s.to}
			if from != nil {
				messages[i].OOB = (&ipv4.ControlMessage{Src: from}).Marshal()
			}
		}
		for done := 0; done < n; {
			k, err := s.batch.WriteBatch(messages[done:n], 0)
			if err != nil {
				return fmt.Errorf("datagram %d: %w", sent+done, err)
			}
			done += k
		}
		sent += n
		if between != nil {
			between()
		}
	}
	return nil
}

// Answers counts what comes back until nothing has for a time, by the form of the first
// byte: answers that begin a connection, and Retry packets.
func (s *Spoofer) Answers(quiet time.Duration) (retries, others, bytes int) {
	buf := make([]byte, maxDatagram)
	for {
		_ = s.conn.SetReadDeadline(time.Now().Add(quiet))
		n, err := s.conn.Read(buf)
		if err != nil {
			return retries, others, bytes
		}
		bytes += n
		if n > 0 && buf[0]&longTypeMask == longRetry {
			retries++
		} else {
			others++
		}
	}
}

// The type of a long header (RFC 9000 §17.2), and the longest datagram that comes.
const (
	longTypeMask = 0xf0
	longRetry    = 0xf0
	maxDatagram  = 2048
)
