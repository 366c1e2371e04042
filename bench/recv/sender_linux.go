package recv

import (
	"encoding/binary"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// senderConfig is what a sender process is told.
type senderConfig struct {
	Port     int           `json:"port"`
	Segments int           `json:"segments"`
	Payload  int           `json:"payload"`
	Flows    int           `json:"flows"`
	Rate     int           `json:"rate"`
	Duration time.Duration `json:"duration"`
}

// A datagram of the bench begins with its flow, its number in the flow, and
// the time of its sending on CLOCK_MONOTONIC.
const (
	offFlow   = 0
	offNumber = 4
	offTime   = 12
	offMagic  = 20
	magic     = 0x7fa11f14
)

// epoch is a time on Go's clock, and epochAt the same on CLOCK_MONOTONIC.
var epoch, epochAt = func() (time.Time, int64) {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Now(), ts.Nano()
}()

// monotonic is CLOCK_MONOTONIC in nanoseconds, which processes share. Package
// unix makes a system call for it, which wakes the runtime's monitor thread; a
// reader that is measured must not.
func monotonic() int64 { return epochAt + int64(time.Since(epoch)) }

// send sends for a time, one train a tick, the flows in turn. It never waits
// for the receiver: at a given rate the ticks are at absolute times, and a tick
// that was missed is made up for.
func send(c senderConfig) (r sentReport) {
	fds := make([]int, c.Flows)
	for i := range fds {
		fd, err := dialFlow(c)
		if err != nil {
			r.Error = err.Error()
			return r
		}
		fds[i] = fd
	}
	train := make([]byte, c.Segments*c.Payload)
	numbers := make([]uint64, c.Flows)
	gap := int64(0)
	if c.Rate > 0 {
		gap = int64(c.Segments) * int64(time.Second) / int64(c.Rate)
	}
	start := monotonic()
	end, next := start+c.Duration.Nanoseconds(), start
	for flow := 0; ; flow = (flow + 1) % c.Flows {
		now := monotonic()
		for now < next {
			now = monotonic()
		}
		if now >= end {
			r.Seconds = float64(now-start) / 1e9
			return r
		}
		next += gap
		for at := 0; at < len(train); at += c.Payload {
			d := train[at:]
			binary.LittleEndian.PutUint32(d[offFlow:], uint32(flow))
			binary.LittleEndian.PutUint64(d[offNumber:], numbers[flow]+uint64(at/c.Payload))
			binary.LittleEndian.PutUint64(d[offTime:], uint64(now))
			binary.LittleEndian.PutUint32(d[offMagic:], magic)
		}
		_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fds[flow]), uintptr(unsafe.Pointer(&train[0])), uintptr(len(train)), 0, 0, 0)
		switch errno {
		case 0:
			numbers[flow] += uint64(c.Segments)
			r.Sent += uint64(c.Segments)
		case unix.EINTR, unix.EAGAIN, unix.ENOBUFS: // nothing was sent
		default:
			r.Error = os.NewSyscallError("sendto", errno).Error()
			return r
		}
	}
}

// dialFlow makes the socket of one flow.
func dialFlow(c senderConfig) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if c.Segments > 1 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, c.Payload); err != nil {
			return -1, fmt.Errorf("GSO: %w", os.NewSyscallError("setsockopt", err))
		}
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<20)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: c.Port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return -1, os.NewSyscallError("connect", err)
	}
	return fd, nil
}
