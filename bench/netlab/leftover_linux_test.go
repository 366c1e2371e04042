package netlab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/bench/proc"
)

// cookie is the number of a namespace, which is never used again, as that of its file is.
func cookie(net *os.File) (is uint64, err error) {
	err = Host{Net: net}.Do(func() error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		is, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		return err
	})
	return is, err
}

// namespacesOf are those of a lab.
func namespacesOf(lab *Lab) (cookies []uint64, err error) {
	hosts := []Host{lab.Receiver, lab.Sender}
	if n, ok := lab.link.(*netemLink); ok {
		hosts = append(hosts, n.middle)
	}
	for _, h := range hosts {
		if h.Net == nil {
			continue
		}
		is, err := cookie(h.Net)
		if err != nil {
			return nil, err
		}
		cookies = append(cookies, is)
	}
	return cookies, nil
}

// holders are the threads and files of this machine's processes that are in one of the
// namespaces.
func holders(t *testing.T, namespaces []uint64) (found []string) {
	t.Helper()
	cookies := make(map[string]uint64) // of this look's namespaces
	for _, pattern := range []string{"/proc/[0-9]*/task/*/ns/net", "/proc/[0-9]*/fd/*"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			name, err := os.Readlink(path)
			if err != nil || !strings.HasPrefix(name, "net:[") {
				continue // it has ended
			}
			if _, ok := cookies[name]; !ok {
				f, err := os.Open(path)
				if err != nil {
					continue
				}
				cookies[name], err = cookie(f)
				f.Close()
				if err != nil {
					t.Fatal(err)
				}
			}
			if slices.Contains(namespaces, cookies[name]) {
				found = append(found, path)
			}
		}
	}
	return found
}

// wires are the processes that are wires of this program.
func wires(t *testing.T) (found []string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		is, _ := os.Readlink(filepath.Join(filepath.Dir(path), "exe"))
		if env, err := os.ReadFile(path); err == nil && is == exe && strings.Contains(string(env), roleWire) {
			found = append(found, path)
		}
	}
	return found
}

// nothingLeft waits until there are no holders and no wires.
func nothingLeft(t *testing.T, namespaces []uint64) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		left := append(holders(t, namespaces), wires(t)...)
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("left: %s", strings.Join(left, " "))
		}
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	var namespaces []uint64
	lap := func() (open int) {
		for _, path := range Paths {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			lab, err := Open(ctx, path)
			cancel() // which must not end the lab
			if errors.Is(err, unix.EPERM) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := lab.Stats(); err != nil {
				t.Error(err)
			}
			cookies, err := namespacesOf(lab)
			if err := errors.Join(err, lab.Close()); err != nil {
				t.Error(err)
			}
			namespaces = append(namespaces, cookies...)
		}
		return files(t)
	}
	before := lap() // what Go opens once is open
	if after := lap(); after > before {
		t.Errorf("%d files were open before, %d after", before, after)
	}
	slices.Sort(namespaces)
	if n := len(slices.Compact(namespaces)); n < 12 { // of three paths, twice
		t.Errorf("%d namespaces", n)
	}
	nothingLeft(t, namespaces)
}

// files is how many this process has open.
func files(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestKillLeavesNothing(t *testing.T) {
	labOf(t, func(ctx context.Context) (*Lab, error) { return Open(ctx, Veth) }) // or a skip
	cmd, err := proc.Command(t.Context(), roleLab, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := proc.Start(cmd, proc.Anywhere)
	if err != nil {
		t.Fatal(err)
	}
	var namespaces []uint64
	if err := p.Line(&namespaces); err != nil {
		t.Fatal(err)
	}
	if len(namespaces) < 8 || len(holders(t, namespaces)) < 8 || len(wires(t)) == 0 {
		t.Errorf("namespaces %v, held by %v, wires %v", namespaces, holders(t, namespaces), wires(t))
	}
	p.Kill() // SIGKILL
	nothingLeft(t, namespaces)
}

// TestWireProcessDies has a wire's end be told.
func TestWireProcessDies(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	lab, err := Build(ctx, Profile{Emulator: Wire, Process: true})
	if errors.Is(err, unix.EPERM) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	lab.link.(*wireLink).wire.(*wireProcess).process.Kill()
	if _, err := lab.Stats(); err == nil {
		t.Error("the counters of a wire that is dead")
	}
	if err := lab.Close(); err == nil {
		t.Error("the end of a wire that was dead went unnoticed")
	}
}
