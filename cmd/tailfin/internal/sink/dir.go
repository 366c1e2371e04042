package sink

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
)

// incoming is the folder for bodies that have not arrived whole. It is below
// the sink's own folder, so that a rename out of it never crosses file systems.
const incoming = ".incoming"

// staleAfter is how long an unfinished file may lie untouched before a start
// takes it for left behind by a crash. A live upload writes to its file, and a
// second daemon on the same folder must not remove it.
const staleAfter = time.Hour

// writeSize is how much of a body goes to the file at a time, in bytes.
const writeSize = 128 << 10

// A Dir stores each body as a file of one folder.
type Dir struct {
	path string
	root *os.Root // for reading: a symbolic link must not lead out of the folder
}

var (
	_ Sink    = (*Dir)(nil)
	_ Fetcher = (*Dir)(nil)
)

// OpenDir makes the folder if it is missing, removes what a crash left behind,
// and checks that it can be written.
func OpenDir(dir string) (*Dir, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(path, incoming), 0o755); err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: path, root: root}
	if err = d.Check(context.Background()); err == nil {
		err = d.sweep()
	}
	if err != nil {
		_ = root.Close()
		return nil, err
	}
	return d, nil
}

// Check makes a file and removes it.
func (d *Dir) Check(context.Context) error {
	probe, err := os.CreateTemp(filepath.Join(d.path, incoming), "probe-*")
	if err != nil {
		return fmt.Errorf("write to folder: %w", err)
	}
	_ = probe.Close()
	return os.Remove(probe.Name())
}

// sweep removes unfinished files that no upload has touched for long.
func (d *Dir) sweep() error {
	entries, err := os.ReadDir(filepath.Join(d.path, incoming))
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) < staleAfter {
			continue // finished or removed meanwhile, or at work
		}
		err = os.Remove(filepath.Join(d.path, incoming, e.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Store writes body to a temporary file, syncs it, renames it to the upload's
// name and syncs the folder.
func (d *Dir) Store(_ context.Context, up Upload, body io.Reader) (Receipt, error) {
	if err := CheckName(up.Name); err != nil {
		return Receipt{}, err
	}
	tmp, err := renameio.NewPendingFile(filepath.Join(d.path, up.Name),
		renameio.WithTempDir(filepath.Join(d.path, incoming)), renameio.WithPermissions(0o644))
	if err != nil {
		return Receipt{}, err
	}
	defer func() { _ = tmp.Cleanup() }() // does nothing once it was renamed
	sum := sha256.New()
	out := bufio.NewWriterSize(tmp, writeSize)
	n, err := io.Copy(io.MultiWriter(out, sum), body)
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return Receipt{}, err
	}
	if err := tmp.CloseAtomicallyReplace(); err != nil {
		return Receipt{}, err
	}
	if err := d.sync(); err != nil {
		return Receipt{}, err
	}
	return Receipt{Name: up.Name, Bytes: n, SHA256: hex.EncodeToString(sum.Sum(nil))}, nil
}

// sync makes a rename durable. Syncing the file alone leaves its name to the
// next commit of the file system (fsync(2)).
func (d *Dir) sync() error {
	f, err := d.root.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// Open opens a stored file for reading.
func (d *Dir) Open(_ context.Context, name string) (Object, error) {
	if err := CheckName(name); err != nil {
		return Object{}, err
	}
	f, err := d.root.Open(name)
	if err != nil {
		return Object{}, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file: %w", name, fs.ErrNotExist)
	}
	if err != nil {
		_ = f.Close()
		return Object{}, err
	}
	return Object{ReadSeekCloser: f, Modified: info.ModTime()}, nil
}

// Close gives up the folder.
func (d *Dir) Close() error { return d.root.Close() }
