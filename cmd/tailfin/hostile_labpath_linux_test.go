package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/bench/netlab"
	"github.com/tailfin-quic/tailfin/bench/peer"
)

// labPatience is what a process may take at most. It is no measure: a process that takes
// so long hangs.
const labPatience = 2 * time.Minute

// A labPath is a path of package netlab, with a daemon at its far end.
type labPath struct {
	*daemon
	t    *testing.T
	lab  *netlab.Lab
	runs []*labRun
	seen labSeen
}

// openLabPath sets a path up, and has a daemon listen on the receiver's address of a family.
func openLabPath(t *testing.T, p netlab.Profile, v labVariant) *labPath {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), labPatience)
	defer cancel()
	lab, err := netlab.Build(ctx, p)
	if errors.Is(err, unix.EPERM) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	addr := lab.Receiver.Addr
	if v.ipv6 {
		if addr = lab.Receiver.Addr6; !addr.IsValid() {
			t.Skip("the kernel has no IPv6")
		}
	}
	x := &labPath{t: t, lab: lab}
	err = lab.Receiver.Do(func() error {
		// A short grace, for nothing that is promised is at work when it is stopped.
		x.daemon = serveAs(t, func(*exec.Cmd) {}, "--listen", netip.AddrPortFrom(addr, 0).String(),
			"--backend", v.backend, "--grace", "500ms")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func (x *labPath) url(name string) string { return "https://" + x.addr + "/" + name }

// A labRun is a `tailfin put` or `tailfin get` at the near end.
type labRun struct {
	result
	args []string
	said *peer.Output // on stderr so far
	hung bool
	done chan struct{} // closed when result and hung are valid
}

// A labTransfer is a line of what --json prints of either command.
type labTransfer struct {
	URL      string
	Error    string
	Status   int
	Bytes    int64
	SHA256   string
	Complete bool // of a get
	MS       int64
	Attempts int
}

// start starts the program at the near end.
func (x *labPath) start(args ...string) *labRun {
	x.t.Helper()
	r := &labRun{args: args, said: &peer.Output{}, done: make(chan struct{})}
	cmd := program(x.t, args...)
	cmd.Env = append(cmd.Env, "XDG_STATE_HOME="+cmd.Dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, r.said
	if err := x.lab.Sender.Do(cmd.Start); err != nil {
		x.t.Fatal(err)
	}
	go func() {
		defer close(r.done)
		late := time.AfterFunc(labPatience, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // how it ended is in its state
		r.hung = !late.Stop()
		r.result = result{cmd.ProcessState.ExitCode(), out.String(), r.said.String()}
	}()
	x.runs = append(x.runs, r)
	return r
}

// transfers reads what a run that has ended has printed.
func (r *labRun) transfers() (list []labTransfer, err error) {
	for line := range strings.Lines(r.stdout) {
		var one labTransfer
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			return list, err
		}
		list = append(list, one)
	}
	return list, nil
}

// busy says whether any run is under way.
func (x *labPath) busy() bool {
	for _, r := range x.runs {
		select {
		case <-r.done:
		default:
			return true
		}
	}
	return false
}

// wait waits for all runs.
func (x *labPath) wait() {
	for _, r := range x.runs {
		<-r.done
	}
}

// untilRequested waits until so many requests have been begun, or no run is under way any more.
func (x *labPath) untilRequested(n int) {
	const begun = "* stream on " // as -v tells
	for x.busy() {
		have := 0
		for _, r := range x.runs {
			have += strings.Count(r.said.String(), begun)
		}
		if have >= n {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// untilPassed waits until so many more packets have passed, both ways together, or no run is
// under way any more.
func (x *labPath) untilPassed(n uint64) error {
	first := uint64(0)
	for begun := false; ; begun = true {
		s, err := x.lab.Stats()
		if err != nil {
			return err
		}
		passed := s.Forward.Passed + s.Back.Passed
		if !begun {
			first = passed
		}
		if passed-first >= n || !x.busy() {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
}

// end stops the daemon, and says how it ended if that was not in good order.
func (x *labPath) end() error {
	if err := x.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-x.done:
	case <-time.After(labPatience):
		return errors.New("it does not stop")
	}
	state, err := x.cmd.Process.Wait()
	if err == nil && state.ExitCode() != exitOK {
		err = errors.New(state.String())
	}
	return err
}

// labFile writes a file of bytes that repeat nowhere, so that none can be taken for another.
func labFile(t *testing.T, path string, size int, seed byte) (sum string) {
	t.Helper()
	body := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(body)
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
	return fileSum(t, path)
}

// left lists what is in a folder of the daemon's; none if there is no such folder.
func (x *labPath) left(folder string) (names []string) {
	x.t.Helper()
	entries, err := os.ReadDir(filepath.Join(x.dir, folder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		x.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
