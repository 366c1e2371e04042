package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/bench/peer"
)

// A terminal is a pseudo-terminal with a program on it.
type terminal struct {
	master *os.File
	cmd    *exec.Cmd
	seen   *peer.Output
	read   chan struct{} // closed when all was read
}

// openPTY returns both ends of a pseudo-terminal of so many columns (pty(7)).
func openPTY(t *testing.T, columns int) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: uint16(columns)}); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// onTerminal starts tailfin with its standard error on a terminal.
func onTerminal(t *testing.T, columns int, env []string, args ...string) *terminal {
	t.Helper()
	master, slave := openPTY(t, columns)
	cmd := program(t, args...)
	cmd.Env = append(append(cmd.Env, "TERM=xterm"), env...)
	cmd.Stderr = slave
	// The terminal controls the program: Ctrl-C on it is a signal.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 2}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = slave.Close()
	term := &terminal{master: master, cmd: cmd, seen: &peer.Output{}, read: make(chan struct{})}
	go func() {
		defer close(term.read)
		_, _ = io.Copy(term.seen, master) // ends with EIO when the program has ended
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		<-term.read
		_ = master.Close()
	})
	return term
}

// waitFor waits until the terminal has shown text.
func (term *terminal) waitFor(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(term.seen.String(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the terminal has not shown %q:\n%q", text, term.seen)
		}
	}
}

// wait returns the exit code and all that the terminal has got.
func (term *terminal) wait(t *testing.T) (int, string) {
	t.Helper()
	var exit *exec.ExitError
	if err := term.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	<-term.read
	return term.cmd.ProcessState.ExitCode(), term.seen.String()
}

// screen is what remains on the terminal: lines, in which a carriage return goes back
// to the first column and "erase to the end of the line" does so.
func screen(output string) []string {
	var lines []string
	for line := range strings.SplitSeq(strings.ReplaceAll(output, "\r\n", "\n"), "\n") {
		var row []byte
		column := 0
		for i := 0; i < len(line); i++ {
			switch {
			case line[i] == '\r':
				column = 0
			case strings.HasPrefix(line[i:], "\x1b[K"):
				row = row[:min(column, len(row))]
				i += 2
			default:
				if column == len(row) {
					row = append(row, 0)
				}
				row[column] = line[i]
				column++
			}
		}
		lines = append(lines, string(bytes.TrimRight(row, " ")))
	}
	return lines
}
