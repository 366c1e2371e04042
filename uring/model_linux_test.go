//go:build linux && !nouring && (386 || amd64 || arm || arm64 || loong64 || mips64le || mipsle || ppc64le || riscv64)

package uring

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A model follows the life of each buffer of a Receiver, on a real ring and a real
// socket, and what was sent and has to come.
//
//	        Recycle                 completion, Next
//	kernel ◄───────── reader ◄──────────────────────── kernel
//
// The kernel's are those from head to tail of the buffer ring, of which it has filled
// some, whose completions wait. After Close nobody has any.
type model struct {
	t    *testing.T
	rand *rand.Rand
	conf Config
	gro  bool
	row  *modelCounts

	fd     int
	sender *net.UDPConn
	r      *Receiver
	room   int // for a payload

	sent    []unit // that have neither come nor been passed by one that did
	seq     uint64
	missing int    // units that were passed
	held    []lent // by the reader, in the order in which they came
	foul    uint32 // buffers that were given back without being poisoned
	before  Stats  // of Receivers that were closed
	unseen  int    // datagrams that were in closed ones
	drops   uint64 // by the kernel, before the model began
}

// modelCounts are what came of models.
type modelCounts struct {
	steps, units, delivered, truncated, drops, noBuffers, overflows, closes, unseen, wraps int
	lost, corrupt, leaked                                                                  int
}

// A unit is what one receive brings: a datagram, or a train on a socket with UDP_GRO.
type unit struct {
	seq     uint64
	length  int
	segment int // of the datagrams of a train, 0 of a lone one
}

// A lent datagram is one that the reader holds, and a copy.
type lent struct {
	d    Datagram
	copy [3][]byte
}

// content is that of a unit: its number, and bytes that follow from it.
func (u unit) content() []byte {
	b := make([]byte, u.length)
	x := u.seq*0x9e3779b97f4a7c15 + 1
	for i := 0; i < len(b); i += 8 {
		var word [8]byte
		binary.BigEndian.PutUint64(word[:], x)
		if i == 0 {
			binary.BigEndian.PutUint64(word[:], u.seq)
		}
		copy(b[i:], word[:])
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return b
}

func newModel(t *testing.T, seed uint64, conf Config, gro bool, counts *modelCounts) *model {
	t.Helper()
	m := &model{t: t, rand: rand.New(rand.NewPCG(seed, 0)), conf: conf, gro: gro, row: counts}
	m.r, m.fd, m.sender = pair(t, conf)
	m.drops = m.kernelDrops()
	m.opened()
	return m
}

// opened begins with a new Receiver, whose buffers are all the kernel's and clean.
func (m *model) opened() {
	b := m.r.bufs
	m.room = b.size - recvmsgOutLen - nameLen - m.r.conf.Control
	for i := range b.slots {
		copy(b.buffer(uint16(i)), poisonPage)
	}
	m.foul = 0
}

// trains turns UDP_GRO on, if the model is to have it.
func (m *model) trains() {
	if m.gro {
		if err := unix.SetsockoptInt(m.fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1); err != nil {
			m.t.Fatal(err)
		}
	}
}

// kernelDrops is what the socket has dropped for a full receive buffer (SO_MEMINFO).
func (m *model) kernelDrops() uint64 {
	var info [9]uint32
	size := uint32(unsafe.Sizeof(info))
	if _, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(m.fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0); errno != 0 {
		m.t.Fatal(errno)
	}
	return uint64(info[8]) // SK_MEMINFO_DROPS
}

// send sends n datagrams of a length, as a train if there are several.
func (m *model) send(length, n int) {
	var payload, oob []byte
	var units []unit
	for i := range n {
		u := unit{m.seq, length, 0}
		if n > 1 && i == n-1 {
			u.length = 8 + m.rand.IntN(length-7) // the last of a train may be shorter
		}
		m.seq++
		payload = append(payload, u.content()...)
		units = append(units, u)
	}
	if n > 1 {
		oob = make([]byte, unix.CmsgSpace(2))
		h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
		h.Level, h.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
		h.SetLen(unix.CmsgLen(2))
		binary.NativeEndian.PutUint16(oob[unix.CmsgLen(0):], uint16(length))
		if m.gro {
			units = []unit{{units[0].seq, len(payload), length}}
		}
	}
	m.sent = append(m.sent, units...)
	m.row.units += len(units)
	if _, _, err := m.sender.WriteMsgUDP(payload, oob, nil); err != nil {
		m.t.Fatalf("send %d of %d: %v", n, length, err)
	}
}

// arrived finds what came among what was sent. What was sent before it and has not
// come never will: the socket keeps the order.
func (m *model) arrived(d Datagram) {
	for i, u := range m.sent {
		if u.length != len(d.Payload) || u.length > 0 && m.seqOf(d) != u.seq {
			continue
		}
		if !bytes.Equal(d.Payload, m.expected(u)) || segmentOf(d) != u.segment || len(d.Name) != unix.SizeofSockaddrInet4 ||
			int(binary.BigEndian.Uint16(d.Name[2:])) != m.sender.LocalAddr().(*net.UDPAddr).Port {
			break
		}
		m.missing += i
		m.sent = m.sent[i+1:]
		m.row.delivered++
		return
	}
	m.row.corrupt++
	m.t.Errorf("what came was not sent, or not in this order: %d bytes, segment %d, %x…", len(d.Payload), segmentOf(d), d.Payload[:min(16, len(d.Payload))])
}

func (m *model) seqOf(d Datagram) uint64 { return binary.BigEndian.Uint64(d.Payload) }

// expected is the content of a unit: of a train that of its datagrams.
func (m *model) expected(u unit) []byte {
	if u.segment == 0 {
		return u.content()
	}
	var b []byte
	for seq := u.seq; len(b) < u.length; seq++ {
		b = append(b, unit{seq: seq, length: min(u.segment, u.length-len(b))}.content()...)
	}
	return b
}

// segmentOf reads the control message of UDP_GRO.
func segmentOf(d Datagram) int {
	msgs, _ := unix.ParseSocketControlMessage(d.Control)
	for _, c := range msgs {
		if c.Header.Level == unix.IPPROTO_UDP && c.Header.Type == unix.UDP_GRO {
			return int(int32(binary.NativeEndian.Uint32(c.Data)))
		}
	}
	return 0
}

// next takes one datagram, and reports false if there is none.
func (m *model) next() bool {
	b := m.r.bufs
	head := b.head
	var turn []uint16
	for i := head; i != b.tail; i++ {
		turn = append(turn, b.slots[uint32(i)&b.mask].bid)
	}
	d, ok := m.r.Next()
	for i := range int(b.head - head) {
		if id := turn[i]; !ok || id != d.id {
			m.foul |= 1 << id // it was dropped, and given back as it was
		}
	}
	if !ok {
		return false
	}
	m.arrived(d)
	buffer := b.buffer(d.id)
	if beyond := buffer[b.size-m.room+len(d.Payload):]; m.foul&(1<<d.id) == 0 && !poisoned(beyond) {
		m.row.corrupt++
		m.t.Errorf("the kernel wrote beyond the %d bytes of a payload", len(d.Payload))
	}
	m.held = append(m.held, lent{d, [3][]byte{bytes.Clone(d.Name), bytes.Clone(d.Control), bytes.Clone(d.Payload)}})
	return true
}

// release gives back the datagram that the reader holds at i, and again, which must be
// without effect.
func (m *model) release(i int) {
	l := m.held[i]
	m.held = append(m.held[:i], m.held[i+1:]...)
	copy(m.r.bufs.buffer(l.d.id), poisonPage)
	m.foul &^= 1 << l.d.id
	m.r.Recycle(l.d)
	m.r.Recycle(l.d)
}

// poisonPage is what a buffer is filled with when it is given back: more than the
// longest has.
var poisonPage = bytes.Repeat([]byte{0xdb}, 1<<17)

func poisoned(b []byte) bool { return bytes.Equal(b, poisonPage[:len(b)]) }

// status is struct io_uring_buf_status.
type status struct {
	group, head uint32
	_           [8]uint32
}

// registerPbufStatus is IORING_REGISTER_PBUF_STATUS (Linux 6.8).
const registerPbufStatus uint8 = 26

// kernelHead asks the kernel how many buffers it has filled, modulo 2¹⁶.
func (m *model) kernelHead() (uint16, bool) {
	s := status{group: bufGroup}
	err := m.r.ring.sys.register(registerPbufStatus, unsafe.Pointer(&s), 1)
	if errors.Is(err, unix.EINVAL) {
		return 0, false // the kernel is older
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return uint16(s.head), true
}

// check holds what must be so after every step.
func (m *model) check() {
	m.t.Helper()
	m.row.steps++
	b, ring := m.r.bufs, m.r.ring
	var mask uint32
	for _, l := range m.held {
		if mask&(1<<l.d.id) != 0 {
			m.row.corrupt++
			m.t.Errorf("the reader was given buffer %d twice", l.d.id)
		}
		mask |= 1 << l.d.id
		for i, part := range [][]byte{l.d.Name, l.d.Control, l.d.Payload} {
			if !bytes.Equal(part, l.copy[i]) {
				m.row.corrupt++
				m.t.Errorf("part %d of buffer %d changed while the reader held it", i, l.d.id)
			}
		}
		if err := within(b, l.d); err != nil {
			m.row.corrupt++
			m.t.Error(err)
		}
	}
	if err := owners(b, mask); err != nil {
		m.row.leaked++
		m.t.Fatal(err)
	}
	if n := ring.pending(); n > ring.size() {
		m.t.Fatalf("%d completions in a ring of %d", n, ring.size())
	}
	filled := b.head // by the completions that are there
	for i := range ring.pending() {
		cqe := ring.cqes[(ring.head+i)&ring.cqMask]
		if cqe.Flags()&cqeFBuffer == 0 {
			continue
		}
		if id := uint16(cqe.Flags() >> 16); filled == b.tail || b.slots[uint32(filled)&b.mask].bid != id {
			m.row.corrupt++
			m.t.Errorf("a completion names buffer %d, which has no turn", id)
		}
		filled++
	}
	head, known := m.kernelHead()
	if known && head != filled && (!ring.overflowed() || head-filled > b.tail-filled) {
		m.row.leaked++
		m.t.Fatalf("the kernel's head is %d, want %d", head, filled)
	}
	// One of the buffers that nobody has filled: nobody has written to it either.
	if free := int(b.tail - head); known && free > 0 {
		id := b.slots[uint32(head+uint16(m.rand.IntN(free)))&b.mask].bid
		if m.foul&(1<<id) == 0 && !poisoned(b.buffer(id)) {
			m.row.corrupt++
			m.t.Errorf("buffer %d was written to after it was given back", id)
		}
	}
	if m.r.broken != nil {
		m.t.Fatal(m.r.broken)
	}
}

// receive is Receive, which must do nothing while there is something to take.
func (m *model) receive() {
	enters, pending := m.r.Stats().Enters, m.r.Pending()
	if err := m.r.Receive(m.fd); err != nil {
		m.t.Fatal(err)
	}
	if pending > 0 && (m.r.Stats().Enters != enters || m.r.Pending() != pending) {
		m.t.Fatalf("a receive with %d completions pending", pending)
	}
}

// mapping is some memory of a Receiver, and how it starts.
type mapping struct {
	at    int64
	start []byte
}

// close closes the Receiver in whatever state, and opens another.
func (m *model) close(open bool) {
	m.t.Helper()
	b := m.r.bufs
	filled, known := m.kernelHead()
	if !known {
		filled = b.head
		for i := range m.r.ring.pending() {
			if m.r.ring.cqes[(m.r.ring.head+i)&m.r.ring.cqMask].Flags()&cqeFBuffer != 0 {
				filled++
			}
		}
	}
	m.unseen += int(filled - b.head)
	var maps []mapping
	for _, mem := range [][]byte{b.mem, b.bufs, m.r.msgMem} {
		maps = append(maps, mapping{int64(uintptr(unsafe.Pointer(&mem[0]))), bytes.Clone(mem[:64])})
	}
	if err := m.r.Close(); err != nil {
		m.t.Fatal(err)
	}
	for _, l := range m.held {
		m.r.Recycle(l.d) // its memory is gone
	}
	m.held = nil
	if _, ok := m.r.Next(); ok || !errors.Is(m.r.Receive(m.fd), os.ErrClosed) || m.r.Pending() != 0 {
		m.t.Error("a closed Receiver works on")
	}
	for i, old := range maps {
		if still(m.t, old) {
			m.row.leaked++
			m.t.Errorf("mapping %d is there after Close", i)
		}
	}
	m.count()
	m.row.closes++
	if open {
		var err error
		if m.r, err = NewReceiver(m.conf); err != nil {
			m.t.Fatal(err)
		}
		m.opened()
	}
}

// still tells whether memory is mapped and as it was. Another mapping may have taken
// its place.
func still(t *testing.T, old mapping) bool {
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	now := make([]byte, len(old.start))
	_, err = mem.ReadAt(now, old.at)
	return err == nil && bytes.Equal(now, old.start)
}

// count adds the counts of a Receiver that is closed.
func (m *model) count() {
	s := m.r.Stats()
	m.before.Truncated += s.Truncated
	m.row.truncated += int(s.Truncated)
	m.row.noBuffers += int(s.NoBuffers)
	m.row.overflows += int(s.Overflows)
	if s.Failed != 0 {
		m.t.Errorf("%d receives failed", s.Failed)
	}
}

// account wants all that was sent to have come, or to be counted where it was lost.
func (m *model) account() {
	m.t.Helper()
	dropped := int(m.kernelDrops() - m.drops)
	gone := m.missing + len(m.sent)
	counted := dropped + m.unseen + int(m.before.Truncated)
	m.row.drops += dropped
	m.row.unseen += m.unseen
	if gone != counted {
		m.row.lost += max(1, gone-counted)
		m.t.Errorf("%d did not come; the kernel counts %d dropped, %d were truncated, and %d in Receivers that were closed",
			gone, dropped, m.before.Truncated, m.unseen)
	}
}

func (m *model) String() string {
	return fmt.Sprintf("%d buffers of %d, %d completions, GRO %v", len(m.r.bufs.slots), m.r.bufs.size, m.r.ring.size(), m.gro)
}
