package recv

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/bench/proc"
)

// senderConfig is what a sender process is told.
type senderConfig struct {
	To       netip.AddrPort `json:"to"`
	Segments int            `json:"segments"`
	Payload  int            `json:"payload"`
	Flows    int            `json:"flows"`
	Rate     int            `json:"rate"`
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

// longestTime is the greatest time that a histogram takes, in nanoseconds.
const longestTime = int64(10 * time.Second)

// newTimes is a histogram of nanoseconds.
func newTimes() *hdrhistogram.Histogram { return hdrhistogram.New(1, longestTime, 3) }

// record adds a time to a histogram, cut to what that takes.
func record(h *hdrhistogram.Histogram, ns int64) { _ = h.RecordValue(min(max(ns, 1), longestTime)) }

// micro is a quantile of a histogram, in microseconds.
func micro(h *hdrhistogram.Histogram, percent float64) float64 {
	return float64(h.ValueAtQuantile(percent)) / 1000
}

// send sends until a line comes on in, one train a tick, the flows in turn. It says on
// out that it has begun, and reports there. It never waits for the receiver, nor in the
// kernel: at a given rate the ticks are at absolute times, a tick that was missed is
// made up for at once, and what the kernel refuses is not sent again.
func send(c senderConfig, in io.Reader, out io.Writer) error {
	enc := json.NewEncoder(out)
	s, err := newSender(c)
	if err != nil {
		return enc.Encode(ready{Error: err.Error()})
	}
	var stop atomic.Bool
	go func() {
		_, _ = bufio.NewReader(in).ReadString('\n')
		stop.Store(true)
	}()
	return enc.Encode(s.run(&stop, func() { _ = enc.Encode(ready{}) }))
}

// A sender is the state of send.
type sender struct {
	senderConfig
	fds     []int
	numbers []uint64 // due next, by flow
	train   []byte
	report  sentReport
}

func newSender(c senderConfig) (*sender, error) {
	s := &sender{senderConfig: c, numbers: make([]uint64, c.Flows), train: make([]byte, c.Segments*c.Payload)}
	for range c.Flows {
		fd, err := dialFlow(c)
		if err != nil {
			return nil, err
		}
		s.fds = append(s.fds, fd)
	}
	return s, nil
}

// run sends until stop is set, and calls begun after the first train.
func (s *sender) run(stop *atomic.Bool, begun func()) sentReport {
	var gap, next, busy int64
	var late *hdrhistogram.Histogram
	if s.Rate > 0 {
		gap = int64(s.Segments) * int64(time.Second) / int64(s.Rate)
		late = newTimes()
	}
	cpu := proc.Used().CPU
	start := monotonic()
	next = start
	flow, began := 0, start
	for ticks := 0; ; ticks++ {
		now := monotonic()
		busy += now - began
		for now < next {
			now = monotonic()
		}
		began = now
		if stop.Load() {
			break
		}
		if late != nil {
			record(late, now-next)
			next += gap
		}
		if err := s.sendTrain(flow, now); err != nil {
			s.report.Error = err.Error()
			break
		}
		if flow++; flow == s.Flows {
			flow = 0
		}
		if ticks == 0 {
			begun()
		}
	}
	r := s.report
	r.Seconds, r.Busy, r.CPU = float64(began-start)/1e9, float64(busy)/1e9, proc.Used().CPU-cpu
	if late != nil {
		r.LateP99 = micro(late, 99)
	}
	return r
}

// sendTrain sends the next datagrams of a flow.
func (s *sender) sendTrain(flow int, now int64) error {
	for at := 0; at < len(s.train); at += s.Payload {
		d := s.train[at:]
		binary.LittleEndian.PutUint32(d[offFlow:], uint32(flow))
		binary.LittleEndian.PutUint64(d[offNumber:], s.numbers[flow]+uint64(at/s.Payload))
		binary.LittleEndian.PutUint64(d[offTime:], uint64(now))
		binary.LittleEndian.PutUint32(d[offMagic:], magic)
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fds[flow]), uintptr(unsafe.Pointer(&s.train[0])), uintptr(len(s.train)), unix.MSG_DONTWAIT, 0, 0)
	switch errno {
	case 0:
		s.numbers[flow] += uint64(s.Segments)
		s.report.Sent += uint64(s.Segments)
	case unix.EINTR, unix.EAGAIN, unix.ENOBUFS: // nothing was sent
		s.report.Refused++
	default:
		return fmt.Errorf("%d datagrams of %d bytes: %w", s.Segments, s.Payload, os.NewSyscallError("sendto", errno))
	}
	return nil
}

// sendBuffer is what a sender asks for: several of the longest trains.
const sendBuffer = 4 << 20

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
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(c.To.Port()), Addr: c.To.Addr().As4()}); err != nil {
		return -1, fmt.Errorf("connect to %s: %w", c.To, os.NewSyscallError("connect", err))
	}
	return fd, nil
}
