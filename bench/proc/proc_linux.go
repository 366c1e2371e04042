// Package proc runs parts of a benchmark as processes of their own, so that the
// processor time of one side can be told from the other's, and each can be kept on
// a processor of its own. The processes are the same program, started again.
package proc

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"runtime/metrics"

	"golang.org/x/sys/unix"
)

// env has a program that calls Child be a process of the bench.
const env = "TAILFIN_BENCH_CHILD"

// A Role is what a process does: it takes its configuration, which is JSON, and
// speaks with its parent by lines of JSON.
type Role func(config json.RawMessage, in io.Reader, out io.Writer) error

// RoleOf makes a Role of a function that takes its configuration as a C.
func RoleOf[C any](run func(c C, in io.Reader, out io.Writer) error) Role {
	return func(config json.RawMessage, in io.Reader, out io.Writer) error {
		var c C
		if err := json.Unmarshal(config, &c); err != nil {
			return err
		}
		return run(c, in, out)
	}
}

// start is the value of env, as JSON.
type start struct {
	Role   string          `json:"role"`
	Config json.RawMessage `json:"config"`
}

// Child runs this process in a role, if it was started for one, and does not return
// then. A program that starts commands of this package must call it first of all.
func Child(roles ...map[string]Role) {
	text := os.Getenv(env)
	if text == "" {
		return
	}
	all := make(map[string]Role)
	for _, r := range roles {
		maps.Copy(all, r)
	}
	var s start
	err := json.Unmarshal([]byte(text), &s)
	if run := all[s.Role]; err == nil && run != nil {
		err = run(s.Config, os.Stdin, os.Stdout)
	} else if err == nil {
		err = fmt.Errorf("no role %q", s.Role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tailfin bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Command is this program again, in a role.
func Command(ctx context.Context, role string, config any) (*exec.Cmd, error) {
	c, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(start{role, c})
	if err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), env+"="+string(text))
	return cmd, nil
}

// A Process is a command under way.
type Process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// A Place is where a process runs.
type Place struct {
	CPU int      // the processor; AnyCPU for any
	Net *os.File // the network namespace; nil for that of this process
}

// AnyCPU is a Place's CPU that leaves the choice to the kernel.
const AnyCPU = -1

// Places are where a receiver and a sender run: on a processor each if they are pinned.
func Places(pinned bool) (receiver, sender Place) {
	if pinned {
		return Place{CPU: 0}, Place{CPU: 1}
	}
	return Anywhere, Anywhere
}

// Anywhere is a Place that says nothing.
var Anywhere = Place{CPU: AnyCPU}

// enter puts this thread, which must be locked, into the place, and returns how to
// leave it again. If that fails, or leaving does, the thread must not be unlocked.
func (p Place) enter() (leave func() error, err error) {
	leave = func() error { return nil }
	if p.CPU != AnyCPU {
		var was, only unix.CPUSet
		if err := unix.SchedGetaffinity(0, &was); err != nil {
			return leave, os.NewSyscallError("sched_getaffinity", err)
		}
		only.Set(p.CPU)
		if err := unix.SchedSetaffinity(0, &only); err != nil {
			return leave, fmt.Errorf("pin to processor %d: %w", p.CPU, err)
		}
		leave = func() error { return os.NewSyscallError("sched_setaffinity", unix.SchedSetaffinity(0, &was)) }
	}
	if p.Net == nil {
		return leave, nil
	}
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return leave, err
	}
	if err := unix.Setns(int(p.Net.Fd()), unix.CLONE_NEWNET); err != nil {
		_ = own.Close()
		return leave, fmt.Errorf("network namespace: %w", os.NewSyscallError("setns", err))
	}
	unpin := leave
	return func() error {
		defer own.Close()
		return errors.Join(unpin(), os.NewSyscallError("setns", unix.Setns(int(own.Fd()), unix.CLONE_NEWNET)))
	}, nil
}

// Start starts a command in a place. A child has the affinity and the network namespace
// of the thread that forks it, from its first instruction. It ends with this process.
func Start(cmd *exec.Cmd, at Place) (*Process, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if cmd.Stderr == nil {
		cmd.Stderr = os.Stderr
	}
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	runtime.LockOSThread() // a thread that is left in a wrong place stays locked, and ends with its goroutine
	leave, err := at.enter()
	if err == nil {
		err = cmd.Start()
	}
	if left := leave(); left == nil {
		runtime.UnlockOSThread()
	}
	if err != nil {
		return nil, err
	}
	return &Process{cmd: cmd, in: in, out: bufio.NewReader(out)}, nil
}

// StartRole starts this program again, in a role and a place.
func StartRole(ctx context.Context, role string, config any, at Place) (*Process, error) {
	cmd, err := Command(ctx, role, config)
	if err != nil {
		return nil, err
	}
	return Start(cmd, at)
}

// Line reads the next line of the process into v.
func (p *Process) Line(v any) error {
	text, err := p.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("the process said nothing: %w", err)
	}
	return json.Unmarshal(text, v)
}

// Ask sends the process a line, and reads what it says next into v.
func (p *Process) Ask(line string, v any) error {
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		return err
	}
	return p.Line(v)
}

// End tells the process to come to its end, with a line, takes what it says last
// into v, and waits for it. A process that fails to is killed.
func (p *Process) End(v any) error {
	if _, err := io.WriteString(p.in, "end\n"); err != nil {
		p.Kill()
		return err
	}
	return p.Last(v)
}

// Last is End for a process that ends by itself.
func (p *Process) Last(v any) error {
	if err := p.Line(v); err != nil {
		p.Kill()
		return err
	}
	return p.cmd.Wait()
}

// Output reads all that the process says and waits for it, for one that speaks other
// than by lines.
func (p *Process) Output() ([]byte, error) {
	text, err := io.ReadAll(p.out)
	return text, errors.Join(err, p.cmd.Wait())
}

// Kill ends the process at once.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// A Usage is what a process has used so far.
type Usage struct {
	CPU    float64 // user and system, in seconds
	Allocs uint64  // objects on the heap
}

// Used reads what this process has used.
func Used() Usage {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}}
	metrics.Read(sample)
	return Usage{CPU: float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9, Allocs: sample[0].Value.Uint64()}
}
