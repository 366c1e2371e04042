package udp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"runtime"
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
			settled = !passing(outcome)
		}
		return outcome
	}
}

// passing tells the errors of a moment from those that say something about
// io_uring.
func passing(err error) bool {
	return errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)
}

// selfTest receives through a ring of its own on a private loopback socket: a
// datagram, an empty one, and a train where the kernel makes trains.
func selfTest() error {
	if err := uring.Blocker(); err != nil {
		return err
	}
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return fmt.Errorf("self-test: %w", err)
	}
	defer func() { _ = socket.Close() }()
	gro := enableGRO(socket) == nil
	done := make(chan error, 1)
	go func() {
		// The thread owned a ring, so it ends with this goroutine.
		runtime.LockOSThread()
		done <- receiveSelfTest(socket, gro)
	}()
	return <-done
}

func receiveSelfTest(socket *net.UDPConn, gro bool) error {
	var rx *uring.Receiver
	var err error
	if cerr := control(socket, func(fd int) { rx, err = uring.NewReceiver(fd, uring.Config{Buffers: 4}) }); cerr != nil {
		return cerr
	}
	if err != nil {
		return err
	}
	defer func() { _ = rx.Close() }()
	if err := rx.Own(); err != nil {
		return fmt.Errorf("%w: %w", errSelfTest, err)
	}
	want, err := sendSelfTest(socket, gro)
	if err != nil {
		return fmt.Errorf("self-test: %w", err)
	}
	var parser controlParser
	deadline := time.Now().Add(selfTestLimit)
	for got := 0; got < len(want); {
		d, ok := rx.Next()
		if !ok {
			left := time.Until(deadline)
			if left <= 0 {
				return fmt.Errorf("%w: %d of %d datagrams came within %v", errSelfTest, got, len(want), selfTestLimit)
			}
			if err := rx.Wait(left); passing(err) {
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
	return nil
}

// sendSelfTest sends from a socket to itself, and returns what.
func sendSelfTest(socket *net.UDPConn, gro bool) ([]string, error) {
	to, ok := socket.LocalAddr().(*net.UDPAddr)
	if !ok {
		return nil, fmt.Errorf("local address %v", socket.LocalAddr())
	}
	want := []string{"tailfin", "", "self-test"}
	for _, d := range want {
		if _, err := socket.WriteToUDP([]byte(d), to); err != nil {
			return nil, err
		}
	}
	if !gro {
		return want, nil
	}
	const segment = 5
	train := "aaaaabbbbbccccc!"
	if _, _, err := socket.WriteMsgUDP([]byte(train), segmentCmsg(segment), to); err != nil {
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
