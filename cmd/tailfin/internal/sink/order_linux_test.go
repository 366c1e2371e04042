package sink

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSyncOrder looks at the system calls: what a power failure leaves follows
// from their order, and a test that kills the process cannot tell. Data is synced
// after its last write and before the rename, the folder after it.
func TestSyncOrder(t *testing.T) {
	const child = "TAILFIN_TEST_SYNC_ORDER"
	if dir := os.Getenv(child); dir != "" {
		d := openDir(t, dir)
		for name, size := range map[string]int{"small": 1000, "large": 1 << 20} {
			if _, err := d.Store(t.Context(), Upload{Name: name}, bytes.NewReader(testBody(size))); err != nil {
				t.Fatal(err)
			}
		}
		id := create(t, d, "resumed", -1)
		for offset, complete := range []bool{false, true} {
			if _, err := d.Append(t.Context(), id, Part{Offset: int64(offset), Length: -1, Complete: complete}, io.NopCloser(strings.NewReader("x"))); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("needs strace")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, trace := t.TempDir(), filepath.Join(t.TempDir(), "trace")
	cmd := exec.CommandContext(t.Context(), strace, "-f", "-y", "-o", trace, "-e", "trace=write,fdatasync,fsync,renameat", exe, "-test.run", "^TestSyncOrder$")
	cmd.Env = append(os.Environ(), child+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		if strings.Contains(string(out), "Operation not permitted") {
			t.Skipf("strace may not trace here: %s", out)
		}
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	calls := strings.Split(string(b), "\n")
	after := func(start int, parts ...string) int {
		t.Helper()
		for i := start; i < len(calls); i++ {
			all := true
			for _, p := range parts {
				all = all && strings.Contains(calls[i], p)
			}
			if all {
				return i
			}
		}
		t.Fatalf("no call with %q after call %d of:\n%s", parts, start, b)
		return 0
	}
	last := func(before int, parts ...string) int {
		t.Helper()
		for i := before - 1; i >= 0; i-- {
			all := true
			for _, p := range parts {
				all = all && strings.Contains(calls[i], p)
			}
			if all {
				return i
			}
		}
		t.Fatalf("no call with %q before call %d of:\n%s", parts, before, b)
		return 0
	}
	for _, name := range []string{"small", "large", "resumed"} {
		rename := after(0, "renameat(", `"`+name+`"`)
		old := strings.Split(calls[rename], `"`)[1] // the temporary name
		write, sync := last(rename, "write(", old+">"), last(rename, "fdatasync(", old+">")
		if sync < write {
			t.Errorf("%s: written (call %d) after it was synced (call %d)", name, write, sync)
		}
		after(rename, "fsync(", dir+">")
		if name != "resumed" {
			continue
		}
		// Before the name there is what says that it is about to be: else a crash
		// in between would make the upload look lost.
		id := strings.TrimSuffix(old, partSuffix)
		meta := last(rename, "renameat(", id+metaSuffix)
		if folder := last(rename, "fsync(", partialsFolder+">"); folder < meta {
			t.Errorf("the folder of uploads was synced (call %d) before what it is to keep (call %d)", folder, meta)
		}
		if sync := last(meta, "fdatasync(", id+newSuffix+">"); sync < last(meta, "write(", id+newSuffix+">") {
			t.Error("an ID.json was renamed before it was synced")
		}
		if last(meta, "fdatasync(", id+partSuffix+">") < last(meta, "write(", id+partSuffix+">") {
			t.Error("an offset was saved before its bytes were")
		}
	}
}
