package sink

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// incoming is the folder for bodies that have not arrived whole. It is below
// the sink's own folder, so that a rename out of it never crosses file systems.
const incoming = ".incoming"

// staleAfter is how long an unfinished file may lie untouched before a start
// takes it for left behind by a crash. A second daemon on the same folder, which
// takes over from the first, must not remove what is at work: a long upload has
// the lock of its file too, and a short one is over long before.
const staleAfter = time.Hour

// A Dir stores each body as a file of one folder. Several may share a folder, in
// one process or in more.
type Dir struct {
	path string
	root *os.Root // for reading: a symbolic link must not lead out of the folder
	top  *folder  // for calls relative to it
	in   *os.File // likewise, of incoming
	log  *slog.Logger

	prefix  string // of temporary names, of this Dir alone
	counter atomic.Uint64
	slots   slots

	resumable *partials

	mu     sync.Mutex // guards what follows
	users  int        // calls that use the folders
	closed bool
	left   []string // files of incoming that could not be removed
}

var (
	_ Sink    = (*Dir)(nil)
	_ Fetcher = (*Dir)(nil)
	_ Resumer = (*Dir)(nil)
)

// ErrClosed meets a call on a Sink that was closed.
var ErrClosed = fmt.Errorf("sink: %w", os.ErrClosed)

// OpenDir makes the folder if it is missing, removes what a crash left behind,
// and checks that it can be written.
func OpenDir(dir string, opts Options) (*Dir, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: path, log: opts.logger(), prefix: rand.Text(), slots: newSlots(opts.MaxWriters)}
	if err = d.open(opts); err != nil {
		d.closeFolders()
		return nil, err
	}
	return d, nil
}

func (d *Dir) open(opts Options) (err error) {
	if err := os.MkdirAll(d.path, 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	if d.root, err = os.OpenRoot(d.path); err != nil {
		return err
	}
	if d.top, err = openFolder(d.path); err != nil {
		return err
	}
	if d.in, err = openBelow(d.top.File, incoming); err != nil {
		return err
	}
	if err := d.Check(context.Background()); err != nil {
		return err
	}
	if err := d.sweep(); err != nil {
		return err
	}
	if !opts.noResume {
		d.resumable, err = openPartials(d, opts)
	}
	return err
}

func (d *Dir) url() string { return "dir:" + d.path }

// tempName is a name in incoming that no other Dir gives.
func (d *Dir) tempName() string {
	return "." + d.prefix + "-" + strconv.FormatUint(d.counter.Add(1), 36)
}

// Check makes a file of one byte and removes it.
func (d *Dir) Check(context.Context) error {
	if err := d.use(); err != nil {
		return err
	}
	defer d.release()
	open, err := d.top.Stat()
	if err != nil {
		return err
	}
	if now, err := os.Stat(d.path); err != nil || !os.SameFile(open, now) {
		return fmt.Errorf("folder %s was moved, removed or mounted over; start again to use what is there now", d.path)
	}
	if err := d.discardLeft(); err != nil {
		return err // one file more would be left
	}
	name := d.tempName()
	fd, err := createAt(d.in, name)
	if err != nil {
		return fmt.Errorf("write to folder: %w", err)
	}
	err = writeAll(fd, []byte{0}) // a full disk may still have an inode
	_ = unix.Close(fd)
	return errors.Join(err, d.discard(name))
}

// sweep removes unfinished files that no upload has touched for long.
func (d *Dir) sweep() error {
	removed := 0
	var failed error
	err := eachFile(d.in, func(name string, st *unix.Stat_t) {
		if !strings.HasPrefix(name, ".") || !isRegular(st) || age(st) < staleAfter {
			return // at work, or not ours
		}
		f, err := openAt(d.in, name, unix.O_RDONLY)
		if err != nil {
			return // finished or removed meanwhile
		}
		defer f.Close()
		if ours, _ := lockFile(int(f.Fd())); !ours {
			return
		}
		switch err := removeAt(d.in, name); {
		case err == nil:
			removed++
		case !errors.Is(err, fs.ErrNotExist):
			failed = err
		}
	})
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	if removed > 0 {
		d.log.Info("removed unfinished uploads of an earlier run", "sink", d.url(), "files", removed)
	}
	return nil
}

// Open opens a stored file for reading.
func (d *Dir) Open(_ context.Context, name string) (Object, error) {
	if err := CheckName(name); err != nil {
		return Object{}, err
	}
	// Without O_NONBLOCK a FIFO would keep its reader, and a thread, for ever.
	f, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return Object{}, unavailable(d.url(), err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file: %w", name, fs.ErrNotExist)
	}
	if err != nil {
		_ = f.Close()
		return Object{}, err
	}
	return Object{ReadSeekCloser: f, Modified: info.ModTime(), ETag: fileTag(info)}, nil
}

// fileTag is a strong entity tag: each upload is a file of its own, so that
// inode, size and time of change name its content. It holds as long as nobody but
// a Dir writes in the folder, or who does replaces files as a Dir does.
func fileTag(info fs.FileInfo) string {
	var inode uint64
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = st.Ino
	}
	return fmt.Sprintf("%q", fmt.Sprintf("%x-%x-%x", inode, info.Size(), info.ModTime().UnixNano()))
}

// use keeps the folders open until release.
func (d *Dir) use() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return ErrClosed
	}
	d.users++
	return nil
}

func (d *Dir) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.users--; d.users == 0 && d.closed {
		d.closeFolders()
	}
}

// Close gives up the folder, when the calls at work have ended.
func (d *Dir) Close() error {
	if d.resumable != nil {
		d.resumable.close()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.closed = true
		if d.users == 0 {
			d.closeFolders()
		}
	}
	return nil
}

func (d *Dir) closeFolders() {
	if d.top != nil {
		_ = d.top.Close()
	}
	if d.in != nil {
		_ = d.in.Close()
	}
	if d.resumable != nil {
		_ = d.resumable.dir.Close()
	}
	if d.root != nil {
		_ = d.root.Close()
	}
}
