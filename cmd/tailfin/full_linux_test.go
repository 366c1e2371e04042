package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFullDisk fills the disk that the receiver stores on: 507, nothing left
// behind, and recovery by itself.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small tmpfs")
	}
	disk := t.TempDir()
	if err := unix.Mount("tailfin-test", disk, "tmpfs", 0, "size=512k"); err != nil {
		t.Skipf("cannot mount a tmpfs here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	d := serve(t, "--sink", "dir:"+disk)
	big, _ := writeFile(t, 2<<20)
	small, _ := writeFile(t, 1000)
	url := "https://" + d.addr

	r := runTailfin(t, "put", big, url+"/big", "--insecure")
	if r.code != exitFailed || !strings.Contains(r.stderr, "507") {
		t.Fatalf("put to a full disk: %+v", r)
	}
	if r := runTailfin(t, "put", small, url+"/small", "--insecure"); r.code != exitOK {
		t.Fatalf("put after the disk was full: %+v", r)
	}
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if r := runTailfin(t, "put", small, url+"/readonly", "--insecure"); r.code != exitFailed || !strings.Contains(r.stderr, "507") {
		t.Fatalf("put to a read-only disk: %+v", r)
	}
	left, err := filepath.Glob(filepath.Join(disk, "[^.]*"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != "small" {
		t.Fatalf("on the disk: %v, %v", left, err)
	}
	if hidden, _ := os.ReadDir(filepath.Join(disk, ".incoming")); len(hidden) != 0 {
		t.Fatalf("unfinished files: %v", hidden)
	}
}
