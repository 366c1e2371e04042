package recv

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin/bench/netlab"
	"github.com/tailfin-quic/tailfin/bench/proc"
)

// TestRun measures for real: what is sent must be what is read and what the kernel
// dropped, also where it drops much.
func TestRun(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Config)
		check  func(t *testing.T, r Row)
	}{
		{"trains", func(*Config) {}, func(t *testing.T, r Row) {
			if wantsTrains(r.Reader) != r.Coalesced || r.Invalid != "" {
				t.Errorf("%s: trains of %.1f, %s", r.Reader, r.Train, r.Invalid)
			}
		}},
		{"a small buffer", func(c *Config) {
			c.Buffer, c.Readers = 50_000, []string{"stock", "auto", "c", "c-mmsg"}
		}, func(t *testing.T, r Row) {
			if r.Reader == "stock" && r.Lost == 0 {
				t.Errorf("%s lost nothing, so this shows nothing", r.Reader)
			}
		}},
		{"paced", func(c *Config) {
			c.Segments, c.Rates, c.Readers = []int{1}, []int{10_000}, []string{"auto", "c", "c-mmsg"}
		}, func(t *testing.T, r Row) {
			if r.Lost > 0 || r.P99 <= 0 || r.P99 < r.P50 || r.SenderLate <= 0 || len(r.Samples["p99_us"]) != 1 {
				t.Errorf("%s: %+v", r.Reader, r)
			}
		}},
		{"two cells", func(c *Config) {
			c.Payload, c.Readers, c.Segments = []int{64, 1452}, []string{"mmsg-gro"}, []int{44}
		}, func(t *testing.T, r Row) {
			if !r.Coalesced {
				t.Errorf("%+v", r)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := quick()
			tc.change(&c)
			rows := measured(t, c)
			if len(rows) != len(c.Readers)*len(c.Cells()) {
				t.Fatalf("%d rows of %v in %d cells", len(rows), c.Readers, len(c.Cells()))
			}
			for _, r := range rows {
				if strings.Contains(r.Skipped, "install ") || strings.Contains(r.Skipped, "io_uring") {
					t.Skipf("%s: %s", r.Reader, r.Skipped)
				}
				if r.Skipped != "" {
					t.Fatalf("%s: %s", r.Reader, r.Skipped)
				}
				if r.Accounting != accountsExact || r.Sent != r.Received+r.Lost || r.Received == 0 || r.Reordered != 0 || r.CPU <= 0 {
					t.Errorf("%s: %+v", r.Reader, r)
				}
				if r.SenderUtilization <= 0 || r.SenderUtilization > 1.1 || r.Buffer != rows[0].Buffer {
					t.Errorf("%s: %+v", r.Reader, r)
				}
				tc.check(t, r)
			}
		})
	}
}

// measured runs c, and again what had no processor in all of its short time, as happens
// beside other tests. Progress must tell each turn of all cells.
func measured(t *testing.T, c Config) []Row {
	t.Helper()
	var all []Row
	const tries = 5
	for try := 1; ; try++ {
		told := 0
		c.Progress = func(done, total int, what string) {
			if told++; done != told || total != c.Turns() {
				t.Errorf("turn %d was announced as %d of %d: %s", told, done, total, what)
			}
		}
		rows, err := Run(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		var starved []string
		for _, r := range rows {
			if strings.HasPrefix(r.Invalid, nothingMeasured) && try < tries && !slices.Contains(starved, r.Reader) {
				starved = append(starved, r.Reader)
			}
		}
		for _, r := range rows {
			if !slices.Contains(starved, r.Reader) {
				all = append(all, r)
			}
		}
		if c.Readers = starved; len(starved) == 0 {
			return all
		}
	}
}

// TestTrainsThatDoNotCome has GRO off, as an operator may: a reader that counts on it
// is not measured by what it reads instead.
func TestTrainsThatDoNotCome(t *testing.T) {
	t.Setenv("TAILFIN_DISABLE_GRO", "1")
	c := quick()
	c.Readers = []string{"stock", "auto"}
	rows := measured(t, c)
	i := slices.IndexFunc(rows, func(r Row) bool { return r.Reader == "auto" })
	auto, stock := rows[i], rows[1-i] // one that was measured again is behind
	if stock.Coalesced || stock.Invalid != "" {
		t.Errorf("stock: %+v", stock)
	}
	if !strings.Contains(auto.Invalid, "did not come as trains") || auto.Coalesced || auto.ToStock != nil || auto.RatioToStock != 0 || auto.Accounting != accountsExact {
		t.Errorf("auto: %+v", auto)
	}
}

// TestRunSaysWhatItCouldNot has readers that cannot be had.
func TestRunSaysWhatItCouldNot(t *testing.T) {
	t.Setenv("TAILFIN_DISABLE_URING", "1")
	t.Setenv("PATH", "")
	c := quick()
	c.Readers, c.Segments = []string{"mmsg-gro", "uring-gro", "c", "c-mmsg", "iperf3"}, []int{1}
	rows, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for i, why := range []string{"", "TAILFIN_DISABLE_URING", "install gcc and liburing-dev", "install gcc", "install iperf3"} {
		if r := rows[i]; r.Reader != c.Readers[i] || !strings.Contains(r.Skipped, why) || (why == "") != (r.Skipped == "") {
			t.Errorf("%+v", r)
		}
	}
}

// TestFloorWithoutLiburing: the C receiver that does not need it is there all the same.
func TestFloorWithoutLiburing(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("needs gcc")
	}
	dir := t.TempDir()
	script := "#!/bin/sh\ncase \"$*\" in *-luring*) echo 'fatal error: liburing.h' >&2; exit 1;; esac\nexec " + cc + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "cc"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	f := buildFloor(t.Context(), []string{"c", "c-mmsg"})
	defer f.remove()
	if err := f.missing["c"]; err == nil || !strings.Contains(err.Error(), "liburing.h") || !strings.Contains(err.Error(), "install") {
		t.Errorf("c: %v", err)
	}
	if err := f.missing["c-mmsg"]; err != nil {
		t.Errorf("c-mmsg: %v", err)
	}
}

// TestFloorHasNoWarnings is for what is compiled without -Werror elsewhere.
func TestFloorHasNoWarnings(t *testing.T) {
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skip("needs gcc")
	}
	if _, err := os.Stat("/usr/include/liburing.h"); err != nil {
		t.Skip("needs liburing-dev")
	}
	f := buildFloor(t.Context(), Readers, "-Werror")
	defer f.remove()
	for reader, err := range f.missing {
		if err != nil {
			t.Errorf("%s: %v", reader, err)
		}
	}
}

func TestForeign(t *testing.T) {
	if _, err := exec.LookPath("iperf3"); err != nil {
		t.Skip("needs iperf3")
	}
	c := quick()
	c.Readers, c.Segments, c.Flows, c.Rates = []string{"iperf3"}, []int{1, 16}, []int{2}, []int{2000}
	rows := measured(t, c)
	if len(rows) != 1 {
		t.Fatalf("%d rows; iperf3 sends no trains", len(rows))
	}
	r := rows[0]
	if r.Skipped != "" || !r.Foreign || r.Received == 0 || r.CPU <= 0 || r.ToStock != nil || r.Accounting == accountsExact {
		t.Errorf("%+v", r)
	}
	if r.OfferedPPS > 3000 {
		t.Errorf("%.0f a second were offered, of 2000 asked for", r.OfferedPPS)
	}
}

func TestBitrate(t *testing.T) {
	for _, tc := range []struct {
		cell Cell
		want int
	}{
		{Cell{Rate: 0, Payload: 100, Flows: 3}, 0},
		{Cell{Rate: 1000, Payload: 100, Flows: 2}, 400_000},
		{Cell{Rate: 1, Payload: 24, Flows: 1024}, 1}, // 0 would be all that it can
	} {
		if got := bitrate(tc.cell); got != tc.want {
			t.Errorf("%v: %d", tc.cell, got)
		}
	}
}

// unread is a socket with a small buffer, and where it is.
func unread(t *testing.T) (*net.UDPConn, netip.AddrPort) {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetReadBuffer(8 << 10); err != nil {
		t.Fatal(err)
	}
	return c, c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// TestSenderDoesNotWait: nobody reads, and it goes on.
func TestSenderDoesNotWait(t *testing.T) {
	const dropped = 100
	c, to := unread(t)
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSender(senderConfig{To: to, Segments: 16, Payload: 1000, Flows: 2})
	if err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	go func() {
		defer stop.Store(true)
		var res result
		for deadline := time.Now().Add(30 * time.Second); res.Drops < dropped && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			describe(raw, &res)
		}
	}()
	r := s.run(&stop, func() {})
	if r.Error != "" || r.Sent < dropped || r.Refused > 0 || r.Sent%16 != 0 {
		t.Errorf("%+v", r)
	}
	if s.numbers[0]+s.numbers[1] != r.Sent {
		t.Errorf("flows of %v datagrams, %d sent", s.numbers, r.Sent)
	}
}

// TestSenderMakesUpForTicks: a sender that stood still sends what was due meanwhile, and
// says how late it was.
func TestSenderMakesUpForTicks(t *testing.T) {
	const (
		rate  = 1000
		stall = 50 * time.Millisecond
	)
	c, to := unread(t)
	s, err := newSender(senderConfig{To: to, Segments: 1, Payload: 64, Flows: 1, Rate: rate})
	if err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	go func() {
		buf := make([]byte, 64)
		for range 2 * stall.Milliseconds() {
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := c.Read(buf); err != nil {
				break
			}
		}
		stop.Store(true)
	}()
	r := s.run(&stop, func() { time.Sleep(stall) })
	if r.LateP99 < 0.8*float64(stall.Microseconds()) {
		t.Errorf("it stood still for %v, and was late by %.0f µs: %+v", stall, r.LateP99, r)
	}
	if r.Error != "" || float64(r.Sent) > r.Seconds*rate+1 || r.Busy > r.Seconds {
		t.Errorf("%+v", r)
	}
	if r.utilization(rate) <= 0 || r.utilization(rate) > 1 {
		t.Errorf("utilization %v", r.utilization(rate))
	}
}

func TestSenderSaysWhatFailed(t *testing.T) {
	receiver := exec.CommandContext(t.Context(), "sh", "-c", "echo '{\"port\":9}'; exec sleep 60")
	_, _, err := exchange(t.Context(), receiver, proc.Anywhere, senderConfig{
		To: netip.AddrPortFrom(netip.MustParseAddr("255.255.255.255"), 0), Segments: 1, Payload: 100, Flows: 1,
	}, proc.Anywhere)
	if err == nil || !strings.Contains(err.Error(), "sender: connect to 255.255.255.255:9") {
		t.Errorf("%v", err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := quick()
	c.Readers = []string{"stock"}
	c.Rounds = 100
	c.Progress = func(done, _ int, _ string) {
		if done == 2 {
			cancel()
		}
	}
	if _, err := Run(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestPaths holds the accounts of each path there is against what it counts itself.
func TestPaths(t *testing.T) {
	for _, path := range netlab.Paths {
		t.Run(path, func(t *testing.T) {
			c := quick()
			c.Path, c.Readers, c.Rates, c.Flows = path, []string{"stock", "mmsg-gro"}, []int{20_000}, []int{1}
			rows := measured(t, c)
			for _, r := range rows {
				if r.Segments == 0 {
					t.Skip(r.Skipped)
				}
				if r.Skipped != "" || r.Accounting != accountsExact || r.Received == 0 || r.Path != path {
					t.Errorf("%+v", r)
				}
				if joined := path != netlab.WAN && wantsTrains(r.Reader); path != netlab.WAN && r.Coalesced != joined {
					t.Errorf("%s: trains of %.1f", r.Reader, r.Train)
				}
			}
		})
	}
}
