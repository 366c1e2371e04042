package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// smallDisk is a file system of 512 kB.
func smallDisk(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small tmpfs")
	}
	disk := t.TempDir()
	if err := unix.Mount("tailfin-test", disk, "tmpfs", 0, "size=512k"); err != nil {
		t.Skipf("cannot mount a tmpfs here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	return disk
}

// TestFullDisk fills the disk that the receiver stores on: 507, nothing left
// behind, and recovery by itself.
func TestFullDisk(t *testing.T) {
	disk := smallDisk(t)
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

// TestFullDiskNDJSON is the same for a file of records: 507, a line in the log, no
// torn line, and recovery by itself.
func TestFullDiskNDJSON(t *testing.T) {
	disk := smallDisk(t)
	file := filepath.Join(disk, "out.ndjson")
	d := serve(t, "--sink", "ndjson:"+file)
	url := "https://" + d.addr
	long, _ := writeFile(t, 2<<20)
	short, _ := writeFile(t, 60_000)
	if r := runTailfin(t, "put", long, url+"/long", "--insecure"); r.code != exitFailed || !strings.Contains(r.stderr, "507") {
		t.Fatalf("a long body to a small disk: %+v", r)
	}
	stored := 0
	for ; ; stored++ {
		r := runTailfin(t, "put", short, url+"/short", "--insecure")
		if r.code == exitOK {
			continue
		}
		if !strings.Contains(r.stderr, "507") {
			t.Fatalf("put to a full disk: %+v", r)
		}
		break
	}
	b, err := os.ReadFile(file)
	if lines := strings.Count(string(b), "\n"); err != nil || stored == 0 || lines != stored || !strings.HasSuffix(string(b), "}\n") {
		t.Fatalf("%d lines of %d stored: %v", lines, stored, err)
	}
	if err := os.Truncate(file, 0); err != nil {
		t.Fatal(err)
	}
	if r := runTailfin(t, "put", short, url+"/short", "--insecure"); r.code != exitOK {
		t.Fatalf("there is room again: %+v", r)
	}
	d.stop(t)
	if log := d.log.String(); strings.Count(log, "status=507") != 2 || !strings.Contains(log, "no space left on device") {
		t.Fatalf("the log does not say what happened:\n%s", log)
	}
}
