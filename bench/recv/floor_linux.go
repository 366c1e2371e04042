package recv

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

//go:embed cfloor/recv.c
var floorSource []byte

// isFloor tells whether a reader is one of the C program.
func isFloor(reader string) bool { return reader == "c" || reader == "c-wait" }

// A floor is the C program, compiled.
type floor struct{ dir string }

// buildFloor compiles the C program if a reader needs it.
func buildFloor(ctx context.Context, readers []string) (*floor, error) {
	if !slices.ContainsFunc(readers, isFloor) {
		return nil, nil //nolint:nilnil // none needed, none made
	}
	cc, err := exec.LookPath("cc")
	if err != nil {
		return nil, fmt.Errorf("no C compiler: %w; install gcc and liburing-dev", err)
	}
	dir, err := os.MkdirTemp("", "tailfin-bench-")
	if err != nil {
		return nil, err
	}
	f := &floor{dir}
	source := filepath.Join(dir, "recv.c")
	if err := os.WriteFile(source, floorSource, 0o600); err != nil {
		f.remove()
		return nil, err
	}
	out, err := exec.CommandContext(ctx, cc, "-O2", "-Wall", "-Werror", "-o", f.path(), source, "-luring").CombinedOutput() //nolint:gosec // our own source
	if err != nil {
		f.remove()
		first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return nil, fmt.Errorf("the C receiver does not compile: %w: %s; install liburing-dev 2.2 or later", err, first)
	}
	return f, nil
}

func (f *floor) path() string { return filepath.Join(f.dir, "recv") }

// command is a run of the program.
func (f *floor) command(ctx context.Context, c receiverConfig) *exec.Cmd {
	latency := "0"
	if c.Latency {
		latency = "1"
	}
	return exec.CommandContext(ctx, f.path(), c.Reader, //nolint:gosec // our own program
		strconv.FormatInt(c.Warmup.Nanoseconds(), 10), strconv.FormatInt(c.Duration.Nanoseconds(), 10),
		strconv.Itoa(c.Buffer), strconv.Itoa(c.Flows), latency)
}

func (f *floor) remove() {
	if f != nil {
		_ = os.RemoveAll(f.dir)
	}
}
