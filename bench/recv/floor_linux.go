package recv

import (
	"context"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

//go:embed cfloor
var floorSource embed.FS

// A floorProgram is a C program with one or more readers.
type floorProgram struct {
	source  string
	readers []string
	flags   []string
	install string // what it takes to compile
}

// floorPrograms are compiled apart, since a machine may lack what only one needs.
var floorPrograms = []floorProgram{
	{"uring.c", []string{"c", "c-wait"}, []string{"-luring"}, "gcc and liburing-dev 2.2 or later"},
	{"mmsg.c", []string{"c-mmsg"}, nil, "gcc"},
}

// A floor has the C programs, compiled.
type floor struct {
	dir     string
	missing map[string]error // by reader
}

// buildFloor compiles the C programs that readers need. What cannot be compiled is
// missing, and says why.
func buildFloor(ctx context.Context, readers []string, flags ...string) *floor {
	f := &floor{missing: make(map[string]error)}
	for _, p := range floorPrograms {
		if !slices.ContainsFunc(p.readers, func(r string) bool { return slices.Contains(readers, r) }) {
			continue
		}
		err := f.compile(ctx, p, flags)
		for _, r := range p.readers {
			f.missing[r] = err
		}
	}
	return f
}

// compiled has the programs that this process has compiled, by their command lines
// without what is different in each folder.
var compiled = struct {
	sync.Mutex
	programs map[string][]byte
}{programs: make(map[string][]byte)}

func (f *floor) compile(ctx context.Context, p floorProgram, flags []string) error {
	cc, err := exec.LookPath("cc")
	if err != nil {
		return fmt.Errorf("no C compiler: %w; install %s", err, p.install)
	}
	if f.dir == "" {
		if f.dir, err = os.MkdirTemp("", "tailfin-bench-"); err != nil {
			return err
		}
	}
	compiled.Lock()
	defer compiled.Unlock()
	key := strings.Join(append([]string{cc, p.source}, flags...), " ")
	if program := compiled.programs[key]; program != nil {
		return os.WriteFile(f.path(p), program, 0o700) //nolint:gosec // a program
	}
	sources, err := os.MkdirTemp(f.dir, "")
	if err != nil {
		return err
	}
	if err := os.CopyFS(sources, floorSource); err != nil {
		return err
	}
	args := append([]string{"-O2", "-Wall", "-pthread", "-o", f.path(p), filepath.Join(sources, "cfloor", p.source)}, p.flags...)
	out, err := exec.CommandContext(ctx, cc, append(args, flags...)...).CombinedOutput() //nolint:gosec // our own source
	if err != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("%s does not compile: %w: %s; install %s", p.source, err, first, p.install)
	}
	program, err := os.ReadFile(f.path(p))
	if err != nil {
		return err
	}
	compiled.programs[key] = program
	return nil
}

func (f *floor) path(p floorProgram) string {
	return filepath.Join(f.dir, strings.TrimSuffix(p.source, ".c"))
}

// command is a run of a reader.
func (f *floor) command(ctx context.Context, c receiverConfig) *exec.Cmd {
	latency := "0"
	if c.Latency {
		latency = "1"
	}
	i := slices.IndexFunc(floorPrograms, func(p floorProgram) bool { return slices.Contains(p.readers, c.Reader) })
	return exec.CommandContext(ctx, f.path(floorPrograms[i]), c.Reader, c.Addr.String(), //nolint:gosec // our own program
		strconv.FormatInt(c.Warmup.Nanoseconds(), 10), strconv.FormatInt(c.Duration.Nanoseconds(), 10),
		strconv.Itoa(c.Buffer), strconv.Itoa(c.Flows), latency)
}

func (f *floor) remove() {
	if f.dir != "" {
		_ = os.RemoveAll(f.dir)
	}
}
