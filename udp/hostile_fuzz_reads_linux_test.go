package udp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin/bench/hostile"
)

// A readSchedule reads from a Conn while deadlines come and go and it is closed, in an
// order that a seed decides, and wants all that was sent to come, in order.
type readSchedule struct {
	t      *testing.T
	rand   *rand.Rand
	conn   *Conn
	sender *net.UDPConn
	seq    uint64
	sent   [][]byte // that have not come
	past   bool     // the deadline has passed

	reads, datagrams, expired int
}

// send sends lone datagrams, of which some are empty, or a train.
func (s *readSchedule) send() {
	if s.rand.IntN(2) == 0 {
		segment := 8 + s.rand.IntN(1200)
		var train []byte
		for range 2 + s.rand.IntN(40) {
			d := s.datagram(segment)
			train, s.sent = append(train, d...), append(s.sent, d)
		}
		if _, _, err := s.sender.WriteMsgUDP(train, segmentCmsg(uint16(segment)), nil); err != nil {
			s.t.Fatal(err)
		}
		return
	}
	for range 1 + s.rand.IntN(20) {
		length := 8 + s.rand.IntN(1400)
		if s.rand.IntN(8) == 0 {
			length = 0
		}
		d := s.datagram(length)
		s.sent = append(s.sent, d)
		if _, err := s.sender.Write(d); err != nil {
			s.t.Fatal(err)
		}
	}
}

// datagram makes one that is like no other, unless it is empty.
func (s *readSchedule) datagram(length int) []byte {
	d := bytes.Repeat([]byte{byte(s.seq)}, length)
	if length > 0 {
		binary.BigEndian.PutUint64(d, s.seq)
	}
	s.seq++
	return d
}

// deadline sets one that has passed, one that is about to, or none.
func (s *readSchedule) deadline() {
	var when time.Time
	s.past = false
	switch s.rand.IntN(4) {
	case 0:
		when, s.past = time.Now().Add(-time.Second), true
	case 1:
		when, s.past = time.Now(), true
	case 2:
		when = time.Now().Add(time.Hour)
	}
	if err := s.conn.SetReadDeadline(when); err != nil {
		s.t.Fatal(err)
	}
}

// read reads once, by one of the calls, if something has to come.
func (s *readSchedule) read() {
	if len(s.sent) == 0 && !s.past {
		return
	}
	s.reads++
	var got [][]byte
	var err error
	if s.rand.IntN(3) > 0 {
		ms := messages(1 + s.rand.IntN(16))
		for i := range ms {
			copy(ms[i].Buffers[0], poison)
		}
		var n int
		n, err = s.conn.ReadBatch(ms, 0)
		for _, m := range ms[:n] {
			if !bytes.Equal(m.Buffers[0][m.N:], poison[m.N:]) {
				s.t.Error("something was written beyond a datagram")
			}
			got = append(got, m.Buffers[0][:m.N])
		}
		if err == nil && n == 0 {
			s.t.Error("no datagrams and no error")
		}
	} else {
		b := make([]byte, 1452)
		var n int
		if n, _, err = s.conn.ReadFrom(b); err == nil {
			got = append(got, b[:n])
		}
	}
	switch {
	case s.past && !errors.Is(err, os.ErrDeadlineExceeded):
		s.t.Fatalf("%v after the deadline", err)
	case s.past:
		s.expired++
	case err != nil:
		s.t.Fatalf("with %d datagrams sent: %v", len(s.sent), err)
	}
	for _, d := range got {
		if len(s.sent) == 0 || !bytes.Equal(d, s.sent[0]) {
			s.t.Fatalf("%d bytes came that were not due: %x…", len(d), d[:min(8, len(d))])
		}
		s.sent = s.sent[1:]
		s.datagrams++
	}
}

// poison is what messages are filled with before a read.
var poison = bytes.Repeat([]byte{0xdb}, 1452)

// interrupted has a read that waits, or is about to, ended by a deadline or by Close.
func (s *readSchedule) interrupted(end bool) {
	s.past = false
	if err := s.conn.SetReadDeadline(time.Time{}); err != nil {
		s.t.Fatal(err)
	}
	for len(s.sent) > 0 {
		s.read()
	}
	came := make(chan error, 1)
	go func() {
		_, err := s.conn.ReadBatch(messages(4), 0)
		came <- err
	}()
	time.Sleep(time.Duration(s.rand.IntN(300)) * time.Microsecond)
	want := os.ErrDeadlineExceeded
	if end {
		want = net.ErrClosed
		if err := s.conn.Close(); err != nil {
			s.t.Fatal(err)
		}
	} else if s.past = true; s.conn.SetReadDeadline(time.Now()) != nil {
		s.t.Fatal("no deadline can be set")
	}
	select {
	case err := <-came:
		if !errors.Is(err, want) {
			s.t.Fatalf("a read that waits: %v, want %v", err, want)
		}
		s.expired++
	case <-time.After(30 * time.Second):
		s.t.Fatalf("a read goes on to wait for ever, and not until %v", want)
	}
}

// TestHostileReads sets deadlines and closes at any time, in any state of the buffers.
func TestHostileReads(t *testing.T) {
	if c, err := net.ListenUDP("udp4", nil); err == nil {
		_ = c.Close() // Go's poller has its descriptors now
	}
	row := hostile.Result{Kind: "kernel", Fault: "read deadlines and closes at any time while a ring receives"}
	descriptors, rings := openFiles(t), ringMaps(t)
	var sum readSchedule
	conns := hostile.Size(6, 300)
	for _, backend := range built() {
		for seed := range conns {
			row.Tries++
			name := fmt.Sprintf("%s,seed=%d", backend, seed)
			t.Run(name, func(t *testing.T) {
				needUring(t, backend)
				s := &readSchedule{t: t, rand: rand.New(rand.NewPCG(uint64(seed), uint64(backend)))}
				var err error
				if s.conn, err = Listen("udp", "127.0.0.1:0", WithBackend(backend), WithGRO(seed%2 == 0), WithBuffers(1<<s.rand.IntN(6))); err != nil {
					t.Fatal(err)
				}
				defer func() { _ = s.conn.Close() }()
				if err := s.conn.SetReadBuffer(8 << 20); err != nil {
					t.Fatal(err)
				}
				s.sender = dial(t, s.conn)
				for range 60 {
					switch s.rand.IntN(8) {
					case 0, 1:
						s.send()
					case 2:
						s.deadline()
					case 3:
						if s.rand.IntN(3) == 0 {
							s.interrupted(false)
						}
					default:
						s.read()
					}
				}
				if seed%3 == 0 { // what was sent and not read is lost by Close
					s.interrupted(true)
				} else if err := s.conn.Close(); err != nil {
					t.Fatal(err)
				}
				if _, err := s.conn.ReadBatch(messages(1), 0); !errors.Is(err, net.ErrClosed) {
					t.Errorf("a read after Close: %v", err)
				}
				if st := s.conn.Stats(); st.Datagrams != uint64(s.datagrams) || st.KernelDrops != 0 || st.Truncated != 0 || st.Failed != 0 {
					row.Lost++
					t.Errorf("%d datagrams read: %+v", s.datagrams, st)
				}
				sum.reads += s.reads
				sum.datagrams += s.datagrams
				sum.expired += s.expired
			})
			if t.Failed() {
				row.Corrupt++
				break
			}
		}
	}
	row.Leaked = max(0, openFiles(t)-descriptors) + max(0, ringMaps(t)-rings)
	row.Bound = fmt.Sprintf("%d reads, of which %d ended by a deadline or Close; %d datagrams came in order (stats.datagrams); %d descriptors before and %d after, %d rings mapped",
		sum.reads, sum.expired, sum.datagrams, descriptors, openFiles(t), ringMaps(t)-rings)
	row.Report(t)
}

func openFiles(t *testing.T) int {
	t.Helper()
	e, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(e)
}

// ringMaps is the number of mappings of rings.
func ringMaps(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), "[io_uring]")
}
