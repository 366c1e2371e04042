package client

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestGetContinuesWhatHasAllItsBytes(t *testing.T) {
	v := &versions{body: noise(5000), etag: `"v1"`}
	u := serve(t, v)
	path := filepath.Join(t.TempDir(), "copy")
	part, err := openPart(path, u.String(), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := part.begin(held{URL: u.String(), validator: validator{ETag: `"v1"`}, Length: 5000}); err != nil {
		t.Fatal(err)
	}
	if _, err := part.Write(v.body); err != nil {
		t.Fatal(err)
	}
	part.abandon()
	s, _ := newSession(t, 0)
	res, err := s.Get(t.Context(), Download{URL: u, Path: path, Continue: true})
	if err != nil || res.Bytes != 5000 || res.SHA256 != sumOf(v.body) || v.asked()[0] != "bytes=4999-" {
		t.Fatalf("%+v, %v, asked %q", res, err, v.asked())
	}
}

func TestGetLeavesOthersAlone(t *testing.T) {
	v := &versions{body: noise(100), etag: `"v1"`}
	u := serve(t, v)
	dir := t.TempDir()
	path := filepath.Join(dir, "copy")
	if err := os.WriteFile(path+".part", []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _ := newSession(t, 0)
	var file *FileError
	if _, err := s.Get(t.Context(), Download{URL: u, Path: path}); !errors.As(err, &file) {
		t.Fatalf("a foreign part file was written over: %v", err)
	}
	if b, _ := os.ReadFile(path + ".part"); string(b) != "mine" {
		t.Fatalf("it has %q now", b)
	}

	// Two runs at once: the second one does not write into the first one's part.
	path = filepath.Join(dir, "other")
	part, err := openPart(path, u.String(), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := part.begin(held{URL: u.String(), Length: 100, validator: validator{ETag: `"v1"`}}); err != nil {
		t.Fatal(err)
	}
	defer part.abandon()
	for _, again := range []bool{false, true} {
		if _, err := s.Get(t.Context(), Download{URL: u, Path: path, Continue: again}); err == nil || !strings.Contains(err.Error(), "another run") {
			t.Fatalf("continue %t: %v", again, err)
		}
	}

	// What is no file is written to in place. (A FIFO: a test that fails must not put a
	// file where this machine's /dev/null was.)
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	read := make(chan []byte, 1)
	go func() {
		b, _ := os.ReadFile(fifo)
		read <- b
	}()
	if _, err := s.Get(t.Context(), Download{URL: u, Path: fifo}); err != nil {
		t.Fatal(err)
	}
	if b := <-read; !bytes.Equal(b, v.body) {
		t.Fatalf("%d bytes came through", len(b))
	}
	if info, err := os.Lstat(fifo); err != nil || info.Mode().Type() != os.ModeNamedPipe {
		t.Fatalf("%v, %v", info, err)
	}

	// The file behind a link is replaced, and not the link.
	link, file2 := filepath.Join(dir, "link"), filepath.Join(dir, "linked")
	if err := os.WriteFile(file2, nil, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("linked", link); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), Download{URL: u, Path: link}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(file2)
	if err != nil || info.Size() != 100 || info.Mode() != 0o640 {
		t.Fatalf("%v, %v", info, err)
	}
	if to, err := os.Readlink(link); to != "linked" {
		t.Fatalf("%q, %v", to, err)
	}
}

// TestGetAfterKill goes on from what is durable of a run that could say nothing more.
func TestGetAfterKill(t *testing.T) {
	const every, size = 400_000, 600_000
	v := &versions{body: noise(size), etag: `"v1"`}
	u := serve(t, v)
	path := filepath.Join(t.TempDir(), "copy")
	part, err := openPart(path, u.String(), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := part.begin(held{URL: u.String(), validator: validator{ETag: `"v1"`}, Length: size}); err != nil {
		t.Fatal(err)
	}
	part.every = every
	// What comes after the checkpoint may be anything after a crash of the machine.
	for _, b := range [][]byte{v.body[:every], make([]byte, 1000)} {
		if _, err := part.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	_ = part.file.Close() // as the end of a process does, with the lock
	s, _ := newSession(t, 0)
	res, err := s.Get(t.Context(), Download{URL: u, Path: path, Continue: true})
	if err != nil || res.Resumed != every || res.SHA256 != sumOf(v.body) || fileSum(t, path) != sumOf(v.body) {
		t.Fatalf("%+v, %v", res, err)
	}
}

func fileSum(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sumOf(b)
}
