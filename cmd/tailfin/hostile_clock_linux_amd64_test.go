//go:build !nouring

package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// envClock has a program under test take the time of day by a function that a test can
// put wrong, for this process alone.
const envClock = "TAILFIN_TEST_CLOCK"

func init() {
	if os.Getenv(asTailfin) == "" || os.Getenv(envClock) == "" {
		return
	}
	c, err := findClock(os.Getpid())
	if err == nil {
		err = c.patch()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "clock:", err)
		os.Exit(exitFailed)
	}
}

// A clock is the function by which a process takes the time: clock_gettime of the vDSO,
// which Go's runtime calls (1.26). It is code in memory, of which a process that is written
// to has a copy of its own.
type clock struct {
	pid  int
	addr int64
}

// wrongClock makes the system call itself, and adds to the seconds of CLOCK_REALTIME
// what stands behind it.
//
//	mov eax, 228 (clock_gettime); syscall
//	test edi, edi; jne done; mov rcx, [rip+6]; add [rsi], rcx
//	done: ret; (two bytes) the offset
var wrongClock = []byte{
	0xb8, 228, 0, 0, 0, 0x0f, 0x05,
	0x85, 0xff, 0x75, 0x0a, 0x48, 0x8b, 0x0d, 6, 0, 0, 0, 0x48, 0x01, 0x0e,
	0xc3, 0, 0,
	0, 0, 0, 0, 0, 0, 0, 0,
}

// clockOffset is where the offset stands in wrongClock.
const clockOffset = 24

// findClock finds the function in a process.
func findClock(pid int) (*clock, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(maps)) {
		if !strings.Contains(line, "[vdso]") {
			continue
		}
		var from, to int64
		if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err != nil {
			return nil, err
		}
		mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
		if err != nil {
			return nil, err
		}
		defer func() { _ = mem.Close() }()
		image, err := io.ReadAll(io.NewSectionReader(mem, from, to-from))
		if err != nil {
			return nil, err
		}
		f, err := elf.NewFile(bytes.NewReader(image))
		if err != nil {
			return nil, err
		}
		symbols, err := f.DynamicSymbols()
		if err != nil {
			return nil, err
		}
		for _, s := range symbols {
			if s.Name == "__vdso_clock_gettime" && s.Size >= uint64(len(wrongClock)) {
				return &clock{pid, from + int64(s.Value)}, nil
			}
		}
	}
	return nil, errors.New("the vDSO has no clock_gettime to replace")
}

func (c *clock) write(at int64, b []byte) error {
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", c.pid), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = mem.WriteAt(b, at)
	return errors.Join(err, mem.Close())
}

// patch puts the function there that can be wrong.
func (c *clock) patch() error { return c.write(c.addr, wrongClock) }

// set puts the clock so far ahead of the true time.
func (c *clock) set(ahead time.Duration) error {
	return c.write(c.addr+clockOffset, binary.LittleEndian.AppendUint64(nil, uint64(int64(ahead.Seconds()))))
}

// TestHostileClock has the time of day jump under the daemon, by years and back, with
// uploads at their half and others between. What it measures time by otherwise, the
// monotonic clock, does not jump but where the process is stopped.
func TestHostileClock(t *testing.T) {
	t.Parallel()
	try := program(t, "version")
	try.Env = append(try.Env, envClock+"=1")
	if out, err := try.CombinedOutput(); err != nil {
		t.Skipf("the vDSO of a process cannot be changed here: %v: %s", err, out)
	}
	d := observe(t, serveAs(t, func(cmd *exec.Cmd) {
		cmd.Env = append(cmd.Env, envClock+"=1")
		cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	}, "--admin", "127.0.0.1:0", "--handshake-rate", "0", "--addr-requests", "100000"))
	c, err := findClock(d.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	p := newDeposit(t, d.daemon, "")
	p.res.Kind = "machine"
	jumps := []time.Duration{time.Hour, -time.Hour, 3 * 365 * 24 * time.Hour, 0, -3 * 365 * 24 * time.Hour, 0}
	const size = 300_000
	for round, ahead := range jumps {
		var half, all sync.WaitGroup
		gate := make(chan struct{})
		for i := range 4 {
			name := fmt.Sprintf("clock-%d-%d", round, i)
			p.sizes[name] = size
			half.Add(1)
			body := &gated{body: crashBody(name, size), half: &half, gate: gate}
			header := []string{"Upload-Complete", "?1", "Upload-Draft-Interop-Version", "8"}
			if i%2 == 0 {
				header = nil
			}
			all.Go(func() {
				a, err := send(t, p.tr, http.MethodPut, "https://"+d.addr+"/"+name, body, header...)
				p.mu.Lock()
				defer p.mu.Unlock()
				if err != nil || a.StatusCode != http.StatusCreated {
					p.res.Lost++
					t.Errorf("an upload at a jump to %v: %v, %v", ahead, a.Response, err)
					return
				}
				p.stored[name] = true
			})
		}
		half.Wait()
		if err := c.set(ahead); err != nil {
			t.Fatal(err)
		}
		close(gate)
		all.Wait()
		if stored, _ := p.round(); stored != len(depositSizes) {
			p.res.Lost += len(depositSizes) - stored
			t.Errorf("after a jump to %v %d of %d uploads are stored", ahead, stored, len(depositSizes))
		}
		// New connections come with a token for their address, and with a session ticket of
		// before the jump.
		fresh := newTransport(t)
		a, err := send(t, fresh, http.MethodGet, "https://"+d.addr+"/bytes/1000", nil)
		if err != nil || a.StatusCode != http.StatusOK || len(a.body) != 1000 {
			p.res.Lost++
			t.Errorf("a new connection after a jump to %v: %v, %v", ahead, a.Response, err)
		}
		year := fmt.Sprintf("time=%d-", time.Now().Add(ahead).Year())
		eventually(t, "the daemon has the wrong time", func() bool { return d.lines(year, "msg=request") > 0 })
		p.res.Tries += 4 + len(depositSizes) + 1
	}
	p.check()
	d.waitReady(t, http.StatusOK)
	p.res.Fault = fmt.Sprintf("the time of day jumps under serve, to %v", jumps)
	p.res.Bound = fmt.Sprintf("%d uploads whole, of them 12 at their half; tailfin_server_timeouts_total %.0f, tailfin_sink_resumable_expired_total %.0f",
		len(p.stored), d.metric(t, "tailfin_server_timeouts_total"), d.metric(t, "tailfin_sink_resumable_expired_total"))
	p.res.Report(t)
	d.stop(t)
}
