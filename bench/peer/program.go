package peer

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// ErrNotInstalled says that a foreign program is missing on this machine.
var ErrNotInstalled = errors.New("not installed")

// A Program is a foreign peer that is installed on this machine.
type Program struct {
	// Name is what people call it.
	Name string
	// Path is the executable.
	Path string
	// Version is what the program or the package manager says it is.
	Version string
}

// findProgram looks a program up, also where Debian keeps servers. version
// tells which it is.
func findProgram(name, executable, debianPackage string, version func(path string) string) (Program, error) {
	path, err := exec.LookPath(executable)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + executable)
	}
	if err != nil {
		return Program{}, fmt.Errorf("%s: %w; Debian has it in the package %s", executable, ErrNotInstalled, debianPackage)
	}
	return Program{Name: name, Path: path, Version: version(path)}, nil
}

// packageVersion asks dpkg, for programs that do not tell their version.
func packageVersion(name string) func(string) string {
	return func(string) string {
		out, err := exec.Command("dpkg-query", "--show", "--showformat=${Version}", name).Output()
		if err != nil {
			return "unknown version"
		}
		return strings.TrimSpace(string(out))
	}
}

// pipeWait is how long a program's output is waited for once it has ended:
// children that outlive it may hold the pipe open.
const pipeWait = 5 * time.Second

// command is exec.CommandContext for a program with children: they are ended
// with it.
func (p Program) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.Path, args...) //nolint:gosec // the path comes from findProgram
	cmd.WaitDelay = pipeWait
	ownGroup(cmd)
	return cmd
}

// run runs the program to its end, and returns what it printed. Standard error
// is apart, in the error too if there is one.
func (p Program) run(ctx context.Context, args ...string) (stdout, stderr string, err error) {
	var out, errOut Output
	cmd := p.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", p.Path, strings.Join(args, " "), err, tail(errOut.String()))
	}
	return out.String(), errOut.String(), err
}

// maxTail is how much of a program's output goes into an error.
const maxTail = 4 << 10

func tail(s string) string {
	if len(s) > maxTail {
		s = "…" + s[len(s)-maxTail:]
	}
	return s
}
