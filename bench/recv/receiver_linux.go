package recv

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/bench/proc"
)

// receiverConfig is what a receiver process is told.
type receiverConfig struct {
	Reader   string        `json:"reader"`
	Addr     netip.Addr    `json:"addr"`
	Flows    int           `json:"flows"`
	Latency  bool          `json:"latency"`
	Warmup   time.Duration `json:"warmup"`
	Duration time.Duration `json:"duration"`
	Buffer   int           `json:"buffer"`
}

// receive reads until a line comes on in. On out it says its port, later that the
// measured interval is over, and at last a result.
func receive(c receiverConfig, in io.Reader, out io.Writer) error {
	enc := json.NewEncoder(out)
	r, err := newReader(c.Reader, c.Addr, c.Buffer)
	if err != nil {
		return enc.Encode(ready{Error: err.Error()})
	}
	s := r.conn()
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	// As quic-go does once it has the socket.
	_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVTOS, 1) })
	if err := enc.Encode(ready{Port: s.LocalAddr().(*net.UDPAddr).Port}); err != nil { //nolint:forcetypeassert // of a UDP socket
		return err
	}
	m := &meter{r: r, last: make([]uint64, c.Flows), first: make(chan struct{})}
	if c.Latency {
		m.latency = newTimes()
	}
	var res result
	measured := make(chan struct{})
	go func() {
		defer close(measured)
		var over ready
		if !m.measure(c, &res) {
			over.Error = fmt.Sprintf("no datagram came within %v", patience)
		}
		_ = enc.Encode(over)
	}()
	go func() {
		_, _ = bufio.NewReader(in).ReadString('\n')
		m.ending.Store(true)
		_ = s.SetReadDeadline(time.Now().Add(quiet)) // for a read that is under way
	}()
	err = m.loop(s, raw)
	<-measured
	if err != nil {
		res.Error = err.Error()
	}
	res.Received, res.Reordered, res.Foreign = m.count.Load(), m.reordered, m.foreign
	if m.latency != nil {
		res.P50, res.P99 = micro(m.latency, 50), micro(m.latency, 99)
	}
	describe(raw, &res)
	if cr, ok := r.(*connReader); ok {
		res.Backend = cr.c.Backend().String()
	}
	return enc.Encode(res)
}

// patience is for how long the first datagram may take.
const patience = 10 * time.Second

// measure waits for the first datagram and the warm-up to be over, and says what the
// process does in the interval after that; false if nothing came.
func (m *meter) measure(c receiverConfig, res *result) bool {
	select {
	case <-m.first:
	case <-time.After(patience):
		return false
	}
	time.Sleep(c.Warmup)
	m.measuring.Store(true)
	a := m.snapshot()
	time.Sleep(c.Duration)
	b := m.snapshot()
	m.measuring.Store(false)
	res.Measured, res.Seconds = b.datagrams-a.datagrams, b.at.Sub(a.at).Seconds()
	res.CPU, res.Allocs = b.cpu-a.cpu, float64(b.allocs-a.allocs)
	res.Syscalls = float64(b.calls - a.calls)
	res.Train = 1
	if n := b.receives - a.receives; n > 0 {
		res.Train = float64(res.Measured) / float64(n)
	}
	return true
}

// A run is over when nothing came in silences waits of quiet. One would do, but for a
// process that had no processor meanwhile: its deadline is over, whatever there is to
// be read.
const (
	quiet    = 50 * time.Millisecond
	silences = 2
)

// A meter counts what a reader reads.
type meter struct {
	r         reader
	count     atomic.Uint64
	last      []uint64 // next number due of each flow
	reordered uint64
	foreign   uint64
	latency   *hdrhistogram.Histogram
	first     chan struct{} // closed when the first datagram was read
	measuring atomic.Bool
	ending    atomic.Bool
}

// poolSize is how many buffers are in use at a time. quic-go returns a buffer
// when its packet was handled, and takes the same one again soon.
const poolSize = 64

func (m *meter) loop(s socket, raw syscall.RawConn) error {
	var pool [poolSize][]byte
	for i := range pool {
		pool[i] = make([]byte, 1452)
	}
	ms := make([]ipv4.Message, 8)
	for i := range ms {
		ms[i].Buffers = [][]byte{nil}
		ms[i].OOB = make([]byte, 128)
	}
	at, silent := 0, 0
	for started := false; ; {
		for i := range ms {
			ms[i].Buffers[0] = pool[at]
			at = (at + 1) % poolSize
		}
		if m.ending.Load() {
			_ = s.SetReadDeadline(time.Now().Add(quiet))
		}
		n, err := m.r.read(ms)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if silent++; silent >= silences && queued(raw) == 0 {
				return nil
			}
			continue
		}
		if err != nil {
			return err
		}
		silent = 0
		if m.latency != nil && n > 0 && m.measuring.Load() {
			record(m.latency, monotonic()-int64(binary.LittleEndian.Uint64(ms[0].Buffers[0][offTime:])))
		}
		for i := range n {
			m.check(ms[i].Buffers[0][:ms[i].N])
		}
		m.count.Add(uint64(n))
		if !started {
			started = true
			close(m.first)
		}
	}
}

// check looks at the number of a datagram.
func (m *meter) check(d []byte) {
	if len(d) < minPayload || binary.LittleEndian.Uint32(d[offMagic:]) != magic {
		m.foreign++
		return
	}
	flow, number := binary.LittleEndian.Uint32(d[offFlow:]), binary.LittleEndian.Uint64(d[offNumber:])
	if int(flow) >= len(m.last) {
		m.foreign++
		return
	}
	if number < m.last[flow] {
		m.reordered++
		return
	}
	m.last[flow] = number + 1
}

// A snapshot is what a meter and its process have done by a time.
type snapshot struct {
	at              time.Time
	datagrams       uint64
	cpu             float64 // seconds
	allocs          uint64
	calls, receives uint64
}

func (m *meter) snapshot() snapshot {
	s := snapshot{at: time.Now(), datagrams: m.count.Load()}
	s.calls, s.receives = m.r.counts()
	used := proc.Used()
	s.cpu, s.allocs = used.CPU, used.Allocs
	return s
}

// Of linux/sock_diag.h, what SO_MEMINFO has.
const (
	memRmemAlloc = 0
	memDrops     = 8
)

// memInfo is SO_MEMINFO of a socket.
func memInfo(fd uintptr) (info [memDrops + 1]uint32, err error) {
	size := uint32(unsafe.Sizeof(info))
	if _, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0); errno != 0 {
		return info, os.NewSyscallError("SO_MEMINFO", errno)
	}
	return info, nil
}

// queued is what waits in a socket, in bytes of the kernel's.
func queued(raw syscall.RawConn) (n uint32) {
	_ = raw.Control(func(fd uintptr) {
		info, _ := memInfo(fd)
		n = info[memRmemAlloc]
	})
	return n
}

// describe reads from a socket what a result says of it.
func describe(raw syscall.RawConn, res *result) {
	err := raw.Control(func(fd uintptr) {
		info, err := memInfo(fd)
		if err != nil {
			res.Error = err.Error()
		}
		res.Drops = uint64(info[memDrops])
		gro, _ := unix.GetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO)
		res.GRO = gro != 0
		res.RcvBuf, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
	})
	if err != nil {
		res.Error = err.Error()
	}
}
