package udp

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/uring"
)

// selfTestLimit bounds the self-test. On loopback it takes a millisecond.
const selfTestLimit = 2 * time.Second

// uringWorks proves that io_uring receives here, once for the process.
// Profiles and kernels differ in more than whether a ring can be set up.
var uringWorks = onceSettled(selfTest)

// onceSettled calls test until the outcome is one that lasts. Lack of memory or
// of descriptors is none: it must not keep io_uring away for good.
func onceSettled(test func() error) func() error {
	var mu sync.Mutex
	var settled bool
	var outcome error
	return func() error {
		mu.Lock()
		defer mu.Unlock()
		if !settled {
			outcome = test()
			settled = !momentary(outcome)
		}
		return outcome
	}
}

// selfTest receives through a ring of its own on a private loopback socket: a
// datagram, an empty one, and a train where the kernel makes trains.
func selfTest() error {
	if err := uring.Blocker(); err != nil {
		return err
	}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return fmt.Errorf("self-test: %w", err)
	}
	socket, err := takeOver(conn)
	if err != nil {
		_ = conn.Close()
		return fmt.Errorf("self-test: %w", err)
	}
	socket.keep(conn)
	defer func() { _ = socket.close() }()
	rx, err := uring.NewReceiver(uring.Config{Buffers: 4})
	if err != nil {
		return err
	}
	defer func() { _ = rx.Close() }()
	want, err := sendSelfTest(socket, socket.enableGRO() == nil)
	if err != nil {
		return fmt.Errorf("self-test: %w", err)
	}
	return receiveSelfTest(rx, socket.fd, want)
}

// receiveSelfTest wants the datagrams in order, and then the end of the queue.
func receiveSelfTest(rx *uring.Receiver, fd int, want []string) error {
	var parser controlParser
	deadline := time.Now().Add(selfTestLimit)
	for got := 0; ; {
		d, ok := rx.Next()
		if !ok {
			if got == len(want) && rx.Drained() {
				return nil
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("%w: %d of %d datagrams came within %v", errSelfTest, got, len(want), selfTestLimit)
			}
			if rx.Drained() && rx.Stats().Enters > 0 {
				time.Sleep(time.Millisecond) // loopback is at work elsewhere
			}
			if err := rx.Receive(fd); momentary(err) {
				return fmt.Errorf("self-test: %w", err)
			} else if err != nil {
				return fmt.Errorf("%w: %w", errSelfTest, err)
			}
			continue
		}
		_, segment := parser.parse(d.Control)
		for rest := d.Payload; ; {
			piece := rest
			if segment > 0 && segment < len(piece) {
				piece = piece[:segment]
			}
			if got >= len(want) || string(piece) != want[got] {
				return fmt.Errorf("%w: datagram %d has %d bytes that were not sent", errSelfTest, got, len(piece))
			}
			got++
			if rest = rest[len(piece):]; len(rest) == 0 {
				break
			}
		}
		rx.Recycle(d)
	}
}

// sendSelfTest sends from a socket to itself, and returns what.
func sendSelfTest(s *socket, gro bool) ([]string, error) {
	send := func(d string, oob []byte) error {
		_, _, err := s.writeMsg([]byte(d), oob, s.local)
		if err == nil && s.sendDrops() > 0 {
			err = os.NewSyscallError("sendmsg", unix.ENOBUFS)
		}
		return err
	}
	want := []string{"tailfin", "", "self-test"}
	for _, d := range want {
		if err := send(d, nil); err != nil {
			return nil, err
		}
	}
	if !gro {
		return want, nil
	}
	const segment = 5
	train := "aaaaabbbbbccccc!"
	switch err := send(train, segmentCmsg(segment)); {
	case momentary(err):
		return nil, err
	case err != nil:
		return want, nil //nolint:nilerror // no GSO here, so no trains to test with
	}
	for rest := train; rest != ""; {
		n := min(segment, len(rest))
		want, rest = append(want, rest[:n]), rest[n:]
	}
	return want, nil
}

// segmentCmsg is the control message that sends a train (UDP_SEGMENT, udp(7),
// Linux 4.18).
func segmentCmsg(size uint16) []byte {
	b := make([]byte, unix.CmsgSpace(2))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(b[unix.CmsgLen(0):], size)
	return b
}
