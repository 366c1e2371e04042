package sink

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"
)

func openDir(t *testing.T, path string) *Dir {
	t.Helper()
	d, err := OpenDir(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// files lists everything below dir but the folder for unfinished bodies.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			list = append(list, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestStoreAndOpen(t *testing.T) {
	dir := t.TempDir()
	d := openDir(t, dir)
	for _, body := range []string{"first", "", strings.Repeat("x", 1<<20), "replaced"} {
		r, err := d.Store(t.Context(), Upload{Name: "report"}, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(body))
		if r.Bytes != int64(len(body)) || r.SHA256 != hex.EncodeToString(sum[:]) {
			t.Fatalf("receipt %+v for %d bytes", r, len(body))
		}
		obj, err := d.Open(t.Context(), "report")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(obj)
		_ = obj.Close()
		if err != nil || string(got) != body {
			t.Fatalf("read back %d of %d bytes, %v", len(got), len(body), err)
		}
	}
	if got := files(t, dir); len(got) != 1 || got[0] != "report" {
		t.Fatalf("files %v, want report alone", got)
	}
	if _, err := d.Open(t.Context(), "absent"); !IsNotFound(err) {
		t.Fatalf("open of nothing: %v", err)
	}
}

// TestBrokenBodyChangesNothing has a body that fails on its way.
func TestBrokenBodyChangesNothing(t *testing.T) {
	dir := t.TempDir()
	d := openDir(t, dir)
	if _, err := d.Store(t.Context(), Upload{Name: "report"}, strings.NewReader("good")); err != nil {
		t.Fatal(err)
	}
	cut := errors.New("connection lost")
	body := io.MultiReader(bytes.NewReader(make([]byte, 100_000)), iotest.ErrReader(cut))
	if _, err := d.Store(t.Context(), Upload{Name: "report"}, body); !errors.Is(err, cut) {
		t.Fatalf("stored a broken body: %v", err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "report"))
	if err != nil || string(got) != "good" {
		t.Fatalf("what was stored became %q, %v", got, err)
	}
	if got := files(t, dir); len(got) != 1 {
		t.Fatalf("left behind: %v", got)
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	in := filepath.Join(dir, incoming)
	if err := os.Mkdir(in, 0o755); err != nil {
		t.Fatal(err)
	}
	old, live := filepath.Join(in, ".a1"), filepath.Join(in, ".b2")
	for _, f := range []string{old, live} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-2 * staleAfter)
	if err := os.Chtimes(old, long, long); err != nil {
		t.Fatal(err)
	}
	openDir(t, dir)
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("a file that a crash left is still there: %v", err)
	}
	if _, err := os.Stat(live); err != nil {
		t.Errorf("a live upload was removed: %v", err)
	}
}

func TestOpenURL(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{"", "dir", "dir:", "file:x", "/tmp", "dir:" + file, "dir:/proc/nothing/here"} {
		if s, err := Open(t.Context(), url, Options{}); err == nil {
			_ = s.Close()
			t.Errorf("sink %q was opened", url)
		}
	}
}

func TestOpenMessages(t *testing.T) {
	opened := false
	opts := Options{Kinds: []Kind{
		{Schemes: []string{"other"}, Forms: []string{"other://HOST"}, Open: func(context.Context, string, Options) (Sink, error) {
			opened = true
			return nil, errors.New("refused")
		}},
		{Schemes: []string{"https"}, Forms: []string{"https://UPSTREAM"}},
	}}
	if _, err := Open(t.Context(), "other://x", opts); err == nil || !opened {
		t.Errorf("a kind that was added: %v", err)
	}
	for url, parts := range map[string][]string{
		"ftp:x":     {"ftp:x", "dir:DIR", "ndjson:-", "ndjson:FILE", "other://HOST", "https://UPSTREAM"},
		"nonsense":  {"nonsense", "dir:DIR"},
		"dir:":      {"dir:DIR"},
		"ndjson:":   {"ndjson:FILE", "ndjson:-"},
		"https://x": {"https://x", "no place to store"},
	} {
		_, err := Open(t.Context(), url, opts)
		for _, part := range parts {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v, want it to say %q", url, err, part)
			}
		}
	}
}

// TestTwoDirs has two on one folder, as at a hand-over between daemons: no name of
// one is that of the other, and opening removes nothing that is at work, however long
// it has been waiting.
func TestTwoDirs(t *testing.T) {
	dir := t.TempDir()
	a, b := openDir(t, dir), openDir(t, dir)
	names := map[string]bool{}
	for range 1000 {
		names[a.tempName()], names[b.tempName()] = true, true
	}
	if len(names) != 2000 {
		t.Fatalf("%d different names of 2000", len(names))
	}
	slow := newStuckBody(make([]byte, 200_000))
	ended := make(chan error, 1)
	go func() {
		_, err := a.Store(context.Background(), Upload{Name: "slow"}, slow)
		ended <- err
	}()
	<-slow.waits
	left := files(t, dir)
	if len(left) != 1 || !strings.HasPrefix(left[0], incoming) {
		t.Fatalf("files %v", left)
	}
	long := time.Now().Add(-2 * staleAfter)
	if err := os.Chtimes(filepath.Join(dir, left[0]), long, long); err != nil {
		t.Fatal(err)
	}
	openDir(t, dir)
	if got := files(t, dir); len(got) != 1 {
		t.Fatal("the file of a slow upload was removed")
	}
	_ = slow.Close()
	if err := <-ended; err == nil {
		t.Fatal("half a body was stored")
	}
	if got := files(t, dir); len(got) != 0 {
		t.Fatalf("left behind: %v", got)
	}
	var wg sync.WaitGroup
	for i, d := range []*Dir{a, b, a, b} {
		wg.Go(func() {
			for range 50 {
				if _, err := d.Store(t.Context(), Upload{Name: "same"}, strings.NewReader(strings.Repeat("x", i*10_000))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := files(t, dir); len(got) != 1 || got[0] != "same" {
		t.Fatalf("files %v", got)
	}
}

func TestETag(t *testing.T) {
	d := openDir(t, t.TempDir())
	seen := map[string]bool{}
	for range 50 { // the same size and within one tick of the clock
		if _, err := d.Store(t.Context(), Upload{Name: "report"}, strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
		obj, err := d.Open(t.Context(), "report")
		if err != nil {
			t.Fatal(err)
		}
		_ = obj.Close()
		if !strings.HasPrefix(obj.ETag, `"`) || !strings.HasSuffix(obj.ETag, `"`) {
			t.Fatalf("tag %s", obj.ETag)
		}
		seen[obj.ETag] = true
	}
	if len(seen) != 50 {
		t.Errorf("%d tags of 50 uploads", len(seen))
	}
}

func TestCheckAndClose(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "in")
	d := openDir(t, dir)
	if err := d.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := d.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "moved") {
		t.Fatalf("the folder is somewhere else: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Store(t.Context(), Upload{Name: "x"}, strings.NewReader("x")); !errors.Is(err, ErrClosed) {
		t.Fatalf("after close: %v", err)
	}
	if err := d.Check(t.Context()); !errors.Is(err, ErrClosed) {
		t.Fatalf("after close: %v", err)
	}
}
