package sink

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// mountTmpfs gives a small file system of its own.
func mountTmpfs(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small tmpfs")
	}
	if err := unix.Mount("tailfin-test", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("cannot mount a tmpfs here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func TestFullDisk(t *testing.T) {
	dir := mountTmpfs(t, "size=256k")
	d := openDir(t, dir)
	if _, err := d.Store(t.Context(), Upload{Name: "small"}, strings.NewReader("fits")); err != nil {
		t.Fatal(err)
	}
	_, err := d.Store(t.Context(), Upload{Name: "big"}, bytes.NewReader(make([]byte, 1<<20)))
	if !IsFull(err) {
		t.Fatalf("on a full disk: %v, want an error that IsFull", err)
	}
	if got := files(t, dir); len(got) != 1 || got[0] != "small" {
		t.Fatalf("files %v, want small alone", got)
	}
	if _, err := d.Store(t.Context(), Upload{Name: "again"}, strings.NewReader("fits")); err != nil {
		t.Fatalf("after the disk was full: %v", err)
	}
}

func TestReadOnlyDisk(t *testing.T) {
	dir := mountTmpfs(t, "size=256k")
	d := openDir(t, dir)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	_, err := d.Store(t.Context(), Upload{Name: "report"}, strings.NewReader("x"))
	if !IsFull(err) {
		t.Fatalf("on a read-only disk: %v, want an error that IsFull", err)
	}
	if _, err := Open(t.Context(), "dir:"+dir, Options{}); err == nil {
		t.Fatal("a read-only folder was taken for a sink")
	}
}
