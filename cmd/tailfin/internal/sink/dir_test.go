package sink

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
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

func TestNames(t *testing.T) {
	dir := t.TempDir()
	inside := filepath.Join(dir, "in")
	d := openDir(t, inside)
	for name, ok := range map[string]bool{
		"report":                  true,
		"report-1.csv":            true,
		"ünïcode":                 true,
		"with space":              true,
		strings.Repeat("a", 200):  true,
		"":                        false,
		".":                       false,
		"..":                      false,
		"../out":                  false,
		"a/../../out":             false,
		"/etc/passwd":             false,
		"a/b":                     false,
		`..\out`:                  false,
		".hidden":                 false,
		incoming:                  false,
		incoming + "/x":           false,
		"nul\x00byte":             false,
		"line\nbreak":             false,
		strings.Repeat("a", 201):  false,
		strings.Repeat("a", 5000): false,
	} {
		_, err := d.Store(t.Context(), Upload{Name: name}, strings.NewReader("x"))
		var bad *NameError
		switch {
		case ok && err != nil:
			t.Errorf("name %.20q refused: %v", name, err)
		case !ok && !errors.As(err, &bad):
			t.Errorf("name %.20q: %v, want a NameError", name, err)
		}
		if _, err := d.Open(t.Context(), name); !ok && !errors.As(err, &bad) {
			t.Errorf("open of name %.20q: %v, want a NameError", name, err)
		}
	}
	if got := files(t, dir); len(got) != 5 {
		t.Fatalf("files %v: more or less than the five good names", got)
	}
}

// TestOpenStaysInside has a symbolic link that leads out of the folder.
func TestOpenStaysInside(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	inside := filepath.Join(dir, "in")
	d := openDir(t, inside)
	if err := os.Symlink(secret, filepath.Join(inside, "link")); err != nil {
		t.Fatal(err)
	}
	if obj, err := d.Open(t.Context(), "link"); err == nil {
		_ = obj.Close()
		t.Fatal("read a file outside of the folder through a link")
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
