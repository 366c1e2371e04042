package sink

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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

// fill writes a file until the file system is full, and returns its path.
func fill(t *testing.T, dir string) string {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, ".filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, n := range []int{64 << 10, 4 << 10, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, n))
		}
	}
	if !IsFull(err) {
		t.Fatal(err)
	}
	return f.Name()
}

// TestFullDiskCheck has readiness follow the disk.
func TestFullDiskCheck(t *testing.T) {
	dir := mountTmpfs(t, "size=256k")
	for _, url := range []string{"dir:" + dir + "/d", "ndjson:" + dir + "/n"} {
		s, err := Open(t.Context(), url, Options{})
		if err != nil {
			t.Fatal(err)
		}
		filler := fill(t, dir)
		if err := s.Check(t.Context()); !IsFull(err) {
			t.Errorf("%s: a full disk: %v", url, err)
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		if err := s.Check(t.Context()); err != nil {
			t.Errorf("%s: there is room again: %v", url, err)
		}
		_ = s.Close()
	}
}

// TestFullDiskResumable keeps what was acknowledged of an upload, gives the rest of
// the disk back, and goes on when there is room.
func TestFullDiskResumable(t *testing.T) {
	dir := mountTmpfs(t, "size=512k")
	d := openDir(t, dir)
	body := testBody(300_000)
	id := create(t, d, "report", -1)
	if _, err := d.Append(t.Context(), id, Part{Length: -1}, io.NopCloser(bytes.NewReader(body[:50_000]))); err != nil {
		t.Fatal(err)
	}
	filler := fill(t, dir)
	if _, err := d.Create(t.Context(), Upload{Name: "other"}, -1); !IsFull(err) {
		t.Errorf("create on a full disk: %v", err)
	}
	if _, err := d.Append(t.Context(), id, Part{Offset: 50_000, Length: -1, Complete: true}, io.NopCloser(bytes.NewReader(body[50_000:]))); !IsFull(err) {
		t.Fatalf("append on a full disk: %v", err)
	}
	if p := find(t, d, id); p.Offset != 50_000 {
		t.Fatalf("%+v", p)
	}
	if info, err := os.Stat(filepath.Join(dir, partialsFolder, id+partSuffix)); err != nil || info.Size() != 50_000 {
		t.Fatalf("what nobody was told of is kept: %v, %v", info, err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	p, err := d.Append(t.Context(), id, Part{Offset: 50_000, Length: -1, Complete: true}, io.NopCloser(bytes.NewReader(body[50_000:])))
	if err != nil || p.Receipt == nil || p.Receipt.SHA256 != hexSum(body) {
		t.Fatalf("%+v, %v", p, err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Create(t.Context(), Upload{Name: "other"}, -1); !IsFull(err) {
		t.Errorf("create on a read-only disk: %v", err)
	}
}

// TestFullDiskNDJSON wants no torn line, and what fits stored.
func TestFullDiskNDJSON(t *testing.T) {
	dir := mountTmpfs(t, "size=256k")
	file := filepath.Join(dir, "out.ndjson")
	s := openNDJSON(t, file, Options{})
	stored := 0
	var err error
	for err == nil {
		if _, err = s.Store(t.Context(), testUpload("x"), strings.NewReader(strings.Repeat("y", 10_000))); err == nil {
			stored++
		}
	}
	if !IsFull(err) || stored == 0 {
		t.Fatalf("%d stored, then %v", stored, err)
	}
	if n := len(records(t, file)); n != stored {
		t.Fatalf("%d records of %d stored", n, stored)
	}
	if _, err := s.Store(t.Context(), testUpload("x"), bytes.NewReader(make([]byte, 2*DefaultInline))); !IsFull(err) {
		t.Fatalf("a long body: %v", err)
	}
	if got := files(t, dir); len(got) != 1 {
		t.Fatalf("files %v", got)
	}
	// In one batch what does not fit must not take with it what does.
	var wg sync.WaitGroup
	var small, big atomic.Int64
	for i := range 20 {
		wg.Go(func() {
			size, n := 10, &small
			if i%2 == 0 {
				size, n = 30_000, &big
			}
			if _, err := s.Store(t.Context(), testUpload("x"), strings.NewReader(strings.Repeat("z", size))); err == nil {
				n.Add(1)
			}
		})
	}
	wg.Wait()
	if n := len(records(t, file)); n != stored+int(small.Load()+big.Load()) || small.Load() == 0 || big.Load() != 0 {
		t.Fatalf("%d records, %d before, %d small and %d big since", n, stored, small.Load(), big.Load())
	}
	if err := os.Truncate(file, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Store(t.Context(), testUpload("x"), strings.NewReader("x")); err != nil {
		t.Fatalf("there is room again: %v", err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err == nil {
		t.Fatal("a file that is open for writing permits a read-only remount")
	}
	_ = s.Close()
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenNDJSON(file, Options{}); !IsFull(err) {
		t.Fatalf("opened on a read-only disk: %v", err)
	}
}

// TestFileDescriptors has none left: unavailable, which passes by itself.
func TestFileDescriptors(t *testing.T) {
	dir := t.TempDir()
	d := openDir(t, dir)
	if _, err := d.Store(t.Context(), Upload{Name: "before"}, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	_, store := d.Store(t.Context(), Upload{Name: "x"}, strings.NewReader("x"))
	_, open := d.Open(t.Context(), "before")
	_, create := d.Create(t.Context(), Upload{Name: "x"}, -1)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	var unavailable *UnavailableError
	for what, err := range map[string]error{"store": store, "open": open, "create": create} {
		if !errors.As(err, &unavailable) || !errors.Is(err, unix.EMFILE) {
			t.Errorf("%s without file descriptors: %v", what, err)
		}
	}
	if _, err := d.Store(t.Context(), Upload{Name: "x"}, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
}

// TestSlots has as many uploads at work as may be.
func TestSlots(t *testing.T) {
	d := openDirWith(t, t.TempDir(), Options{MaxWriters: 1})
	slow := newStuckBody(make([]byte, 2*smallSize))
	ended := make(chan error, 1)
	go func() {
		_, err := d.Store(context.Background(), Upload{Name: "slow"}, slow)
		ended <- err
	}()
	<-slow.waits
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := d.Store(ctx, Upload{Name: "x"}, strings.NewReader("x")); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a second upload: %v", err)
	}
	_ = slow.Close()
	<-ended
	if _, err := d.Store(t.Context(), Upload{Name: "x"}, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
}
