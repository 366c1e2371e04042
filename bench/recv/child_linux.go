package recv

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// envChild has a program that calls Child be a process of the bench.
const envChild = "TAILFIN_BENCH_CHILD"

// childConfig is the value of envChild, as JSON. One of its parts is set.
type childConfig struct {
	Receiver *receiverConfig `json:"receiver,omitempty"`
	Sender   *senderConfig   `json:"sender,omitempty"`
}

// Child runs this process as one of the bench's, if it was started as one, and
// does not return then. A program that calls Run must call it first of all.
func Child() {
	text := os.Getenv(envChild)
	if text == "" {
		return
	}
	var c childConfig
	err := json.Unmarshal([]byte(text), &c)
	switch {
	case err != nil:
	case c.Receiver != nil:
		err = receive(*c.Receiver, os.Stdin, os.Stdout)
	case c.Sender != nil:
		err = json.NewEncoder(os.Stdout).Encode(send(*c.Sender))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tailfin bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// self starts this program again as a process of the bench.
func self(ctx context.Context, c childConfig) (*exec.Cmd, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), envChild+"="+string(text))
	return cmd, nil
}

// start starts a process on one processor, or on any with cpu -1. A child has
// the affinity of the thread that forks it, from its first instruction.
func start(cmd *exec.Cmd, cpu int) error {
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	runtime.LockOSThread() // never unlocked by failed starts: the affinity may be wrong then
	if cpu >= 0 {
		var was, only unix.CPUSet
		if err := unix.SchedGetaffinity(0, &was); err != nil {
			return os.NewSyscallError("sched_getaffinity", err)
		}
		only.Set(cpu)
		if err := unix.SchedSetaffinity(0, &only); err != nil {
			return fmt.Errorf("pin to processor %d: %w", cpu, err)
		}
		defer func() { _ = unix.SchedSetaffinity(0, &was) }()
	}
	err := cmd.Start()
	runtime.UnlockOSThread()
	return err
}

// A receiverProcess is a receiver under way.
type receiverProcess struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	port int
}

// startReceiver starts a receiver and waits for its port.
func startReceiver(cmd *exec.Cmd, cpu int) (*receiverProcess, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := start(cmd, cpu); err != nil {
		return nil, err
	}
	p := &receiverProcess{cmd: cmd, in: in, out: bufio.NewReader(out)}
	var hello ready
	if err := p.line(&hello); err != nil {
		p.kill()
		return nil, err
	}
	if hello.Error != "" {
		p.kill()
		return nil, errors.New(hello.Error)
	}
	p.port = hello.Port
	return p, nil
}

func (p *receiverProcess) line(v any) error {
	text, err := p.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("the receiver said nothing: %w", err)
	}
	return json.Unmarshal(text, v)
}

func (p *receiverProcess) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// finish has the receiver read what is left, and takes its result.
func (p *receiverProcess) finish() (res result, err error) {
	if _, err := io.WriteString(p.in, "end\n"); err != nil {
		p.kill()
		return res, err
	}
	if err := p.line(&res); err != nil {
		p.kill()
		return res, err
	}
	if err := p.cmd.Wait(); err != nil {
		return res, err
	}
	if res.Error != "" {
		return res, errors.New(res.Error)
	}
	return res, nil
}

// runSender sends to a port and returns when all is sent.
func runSender(ctx context.Context, c senderConfig, cpu int) (sent sentReport, err error) {
	cmd, err := self(ctx, childConfig{Sender: &c})
	if err != nil {
		return sent, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return sent, err
	}
	if err := start(cmd, cpu); err != nil {
		return sent, err
	}
	err = json.NewDecoder(out).Decode(&sent)
	if waited := cmd.Wait(); err == nil {
		err = waited
	}
	if err == nil && sent.Error != "" {
		err = errors.New(sent.Error)
	}
	return sent, err
}

// slack is what a sender goes on for beyond warm-up and measured interval, so
// that it is there to the end of the latter.
const slack = 150 * time.Millisecond
