//go:build (amd64 || arm64) && !nouring

package udp

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/bench/hostile/inject"
)

// asHostileChild has a test process be the one whose system calls fail.
const asHostileChild = "TAILFIN_TEST_HOSTILE_CHILD"

// The descriptors of a hostile child, beside the usual ones.
const (
	ordersFD  = 3
	reportsFD = 4
)

// An order is what the child is to do. It has one Conn at a time.
type order struct {
	Do      string // listen, read, write, serve, ended, stop, close or state
	Backend Backend
	Fresh   bool          // listen: with a self-test of its own
	Count   int           // read, write: datagrams; close: goroutines that there were before
	Errors  int           // read, write: how many errors end it
	Wait    time.Duration // read, write: the deadline
	To      string        // write

	Moderation time.Duration // listen: 0 is the default
}

// A report is what came of an order.
type report struct {
	Addr       string
	Backend    Backend
	Reason     string
	Good       int // datagrams that were read and were due, or were written
	Wrong      int // that were read and were not due
	Errs       []failure
	Stats      Stats
	FDs, Maps  int
	Goroutines int
}

// A failure is an error.
type failure struct {
	Text      string
	Errno     unix.Errno
	Temporary bool // as quic-go asks
	Timeout   bool
}

func failureOf(err error) failure {
	f := failure{Text: err.Error()}
	errors.As(err, &f.Errno)
	var nerr net.Error
	if errors.As(err, &nerr) {
		f.Temporary, f.Timeout = nerr.Temporary(), nerr.Timeout() //nolint:staticcheck // what quic-go (v0.65.0) asks
	}
	return f
}

// numbered is a datagram that shows whether it came whole, and which it is.
func numbered(n uint32) []byte {
	d := make([]byte, 12+n*37%1200)
	binary.BigEndian.PutUint32(d, n)
	for i := 8; i < len(d); i++ {
		d[i] = byte(uint32(i) * (n + 3))
	}
	binary.BigEndian.PutUint32(d[4:], crc32.ChecksumIEEE(d[8:]))
	return d
}

// numberOf is the number of a datagram, false if it is none or not whole.
func numberOf(d []byte) (uint32, bool) {
	if len(d) < 12 {
		return 0, false
	}
	n := binary.BigEndian.Uint32(d)
	return n, len(d) == 12+int(n*37%1200) && crc32.ChecksumIEEE(d[8:]) == binary.BigEndian.Uint32(d[4:])
}

// A hostileChild carries orders out.
type hostileChild struct {
	conn *Conn
	due  uint32 // number of the datagram that is to be read next
	sent uint32 // and of that which is to be written

	tr    *quic.Transport
	wg    sync.WaitGroup
	ended chan error // of the QUIC server
}

// TestHostileChild is the process under test of the tests named TestHostile….
func TestHostileChild(t *testing.T) {
	if os.Getenv(asHostileChild) == "" {
		return // run as a test of its own it has nothing to do
	}
	orders, reports := json.NewDecoder(os.NewFile(ordersFD, "orders")), json.NewEncoder(os.NewFile(reportsFD, "reports"))
	if err := inject.ConfineByEnv(); err != nil {
		t.Fatal(err)
	}
	var c hostileChild
	for {
		var o order
		if err := orders.Decode(&o); err != nil {
			return
		}
		if err := reports.Encode(c.carryOut(t, o)); err != nil {
			t.Fatal(err)
		}
	}
}

func (c *hostileChild) carryOut(t *testing.T, o order) report {
	var r report
	fail := func(err error) {
		if err != nil {
			r.Errs = append(r.Errs, failureOf(err))
		}
	}
	switch o.Do {
	case "listen":
		if o.Fresh {
			uringWorks = onceSettled(selfTest)
		}
		conn, err := Listen("udp", "127.0.0.1:0", WithBackend(o.Backend), WithModeration(max(o.Moderation, DefaultModeration)))
		if fail(err); err == nil {
			c.conn, c.due, c.sent = conn, 0, 0
			fail(conn.SetReadBuffer(1 << 20))
		}
	case "read":
		c.read(o, &r, fail)
	case "write":
		c.write(o, &r, fail)
	case "serve":
		c.serve(t)
	case "ended":
		fail(<-c.ended)
		c.ended = nil
		fail(c.stop())
	case "stop":
		fail(c.stop())
	case "close":
		if c.conn != nil {
			r.Stats = c.conn.Stats()
			fail(c.conn.Close())
			c.conn = nil
		}
		for range 500 { // goroutines that have nothing more to do
			if runtime.NumGoroutine() <= max(o.Count, 2) {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
	if c.conn != nil {
		r.Addr, r.Backend, r.Reason, r.Stats = c.conn.LocalAddr().String(), c.conn.Backend(), c.conn.Reason(), c.conn.Stats()
	}
	u := resources(t)
	r.FDs, r.Maps, r.Goroutines = u.fds, u.maps, runtime.NumGoroutine()
	return r
}

// read wants datagrams in order.
func (c *hostileChild) read(o order, r *report, fail func(error)) {
	_ = c.conn.SetReadDeadline(time.Now().Add(o.Wait))
	ms := messages(8)
	for r.Good+r.Wrong < o.Count && len(r.Errs) < max(o.Errors, 1) {
		n, err := c.conn.ReadBatch(ms, 0)
		fail(err)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		for _, m := range ms[:n] {
			if seq, whole := numberOf(m.Buffers[0][:m.N]); !whole || seq != c.due {
				r.Wrong++
				continue
			}
			c.due++
			r.Good++
		}
	}
}

func (c *hostileChild) write(o order, r *report, fail func(error)) {
	to, err := net.ResolveUDPAddr("udp", o.To)
	if err != nil {
		fail(err)
		return
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(o.Wait))
	for i := 0; i < o.Count && len(r.Errs) < max(o.Errors, 1); i++ {
		d := numbered(c.sent)
		c.sent++
		n, err := c.conn.WriteTo(d, to)
		if fail(err); err == nil && n == len(d) {
			r.Good++
		}
	}
}

// serve answers each stream with the sum of what came.
func (c *hostileChild) serve(t *testing.T) {
	_ = c.conn.SetReadDeadline(time.Time{})
	_ = c.conn.SetWriteDeadline(time.Time{})
	c.tr = &quic.Transport{Conn: c.conn}
	c.ended = make(chan error, 1)
	ln, err := c.tr.Listen(testTLS(t), &quic.Config{MaxIdleTimeout: time.Minute})
	if err != nil {
		c.ended <- err
		return
	}
	c.wg.Go(func() {
		for {
			conn, err := ln.Accept(context.Background())
			if err != nil {
				c.ended <- err
				return
			}
			c.wg.Go(func() {
				for {
					s, err := conn.AcceptStream(context.Background())
					if err != nil {
						return
					}
					c.wg.Go(func() {
						h := sha256.New()
						if _, err := io.Copy(h, s); err == nil {
							_, _ = s.Write(h.Sum(nil))
						}
						_ = s.Close()
					})
				}
			})
		}
	})
}

// stop ends the QUIC server, if it has not ended.
func (c *hostileChild) stop() error {
	if c.tr == nil {
		return nil
	}
	err := c.tr.Close()
	c.wg.Wait()
	c.tr = nil
	return err
}
