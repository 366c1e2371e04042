package sink

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// wantedEvery is how often a writer looks whether another process wants its
// upload, and how often that looks whether it can have it.
const wantedEvery = 200 * time.Millisecond

// wantedWait is how long it waits before its client is told to come again.
const wantedWait = 10 * time.Second

var errBusy = errors.New("the upload is being written")

// A writer is who has an upload, within the process.
type writer struct {
	body       io.Closer // closed to end a read of it; nil if there is none
	superseded atomic.Bool
	done       chan struct{} // closed when the upload is free again
}

func (w *writer) supersede() {
	w.superseded.Store(true)
	if w.body != nil {
		_ = w.body.Close()
	}
}

// A claim is an upload that nobody else reads or writes until its release.
type claim struct {
	p      *partials
	id     string
	writer *writer
	file   *os.File // ID.part, with its lock; nil if the upload is complete
	meta   *partialMeta
	size   int64     // of ID.part
	saved  int64     // the offset in ID.json, to which an error of the storage falls back
	used   time.Time // when ID.part was last written
}

// claim takes an upload over from who has it. body is what is closed if a later
// claim takes it over in turn. With wait false it fails with errBusy instead.
func (p *partials) claim(ctx context.Context, id string, body io.Closer, wait bool) (*claim, error) {
	if !isUploadID(id) {
		return nil, ErrNoUpload
	}
	w := &writer{body: body, done: make(chan struct{})}
	for {
		p.mu.Lock()
		former := p.writers[id]
		if former == nil {
			p.writers[id] = w
			p.mu.Unlock()
			break
		}
		p.mu.Unlock()
		if !wait {
			return nil, errBusy
		}
		former.supersede()
		select {
		case <-former.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	c := &claim{p: p, id: id, writer: w}
	if err := c.open(ctx, wait); err != nil {
		c.release()
		return nil, err
	}
	return c, nil
}

func (c *claim) release() {
	if c.file != nil {
		_ = c.file.Close()
	}
	c.p.mu.Lock()
	delete(c.p.writers, c.id)
	c.p.mu.Unlock()
	close(c.writer.done)
}

// open finds out how far the upload has come.
func (c *claim) open(ctx context.Context, wait bool) error {
	if err := c.lock(ctx, wait); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	meta, err := c.p.load(c.id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ErrNoUpload
	case err != nil:
		return err
	}
	c.meta, c.saved = meta, meta.Offset
	if c.file == nil {
		if meta.Receipt == nil {
			return ErrNoUpload // someone has removed what arrived
		}
		c.size, c.saved = meta.Receipt.Bytes, meta.Receipt.Bytes
		return nil
	}
	meta.Receipt = nil // it was about to be complete, and is not
	info, err := c.file.Stat()
	if err != nil {
		return err
	}
	c.size, c.used = info.Size(), info.ModTime()
	if c.size > c.saved && meta.Boot != bootID() {
		// Power failed, or the system: what it had not synced may be anything.
		if err := c.fallBack(); err != nil {
			return err
		}
	}
	if c.size < c.saved {
		// An offset must never decrease: whoever has kept a part of what was
		// acknowledged has lost the upload.
		return fmt.Errorf("%d of %d bytes are left: %w", c.size, c.saved, ErrNoUpload)
	}
	return nil
}

// lock opens ID.part and takes its lock, from another process too.
func (c *claim) lock(ctx context.Context, wait bool) error {
	asked := false
	for start := time.Now(); ; {
		f, err := openAt(c.p.dir.File, c.id+partSuffix, unix.O_RDWR)
		if err != nil {
			return err
		}
		locked, err := lockFile(int(f.Fd()))
		if err != nil {
			_ = f.Close()
			return err
		}
		if locked {
			// It may have been renamed or removed before it was ours.
			same, err := isAt(c.p.dir.File, c.id+partSuffix, f)
			if same {
				if asked {
					_ = removeAt(c.p.dir.File, c.id+wantedSuffix)
				}
				c.file = f
				return nil
			}
			_ = f.Close()
			if err != nil {
				return err
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			continue
		}
		_ = f.Close()
		switch {
		case !wait:
			return errBusy
		case time.Since(start) > wantedWait:
			return &UnavailableError{Sink: c.p.d.url(), Err: errBusy}
		case !asked:
			asked = true
			if f, err := openAt(c.p.dir.File, c.id+wantedSuffix, unix.O_CREAT|unix.O_WRONLY); err == nil {
				_ = f.Close()
			}
		}
		select {
		case <-time.After(wantedEvery / 4):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// watch supersedes the writer if another process asks for the upload. It ends with
// stop.
func (c *claim) watch() (stop func()) {
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(wantedEvery)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
			}
			if unix.Faccessat(int(c.p.dir.Fd()), c.id+wantedSuffix, unix.F_OK, 0) == nil {
				c.writer.supersede()
				return
			}
		}
	}()
	return func() { close(over); <-ended }
}

// hashed is the hash of all that ID.part has, of which what ID.json says needs no
// reading.
func (c *claim) hashed(ctx context.Context) (hash.Hash, error) {
	sum, err := c.meta.resumeHash()
	if err != nil {
		return nil, err
	}
	rest := io.NewSectionReader(c.file, c.meta.Offset, c.size-c.meta.Offset)
	err = copyChunks(ctx, rest, func(p []byte) error { sum.Write(p); return nil })
	return sum, err
}

// save makes what arrived durable, and then the offset that says so.
func (c *claim) save(sum hash.Hash) error {
	if err := syncFile(int(c.file.Fd())); err != nil {
		return err
	}
	if err := c.meta.setHash(sum, c.size); err != nil {
		return err
	}
	if err := c.p.save(c.id, c.meta); err != nil {
		return err
	}
	c.saved = c.size
	return nil
}

// fallBack gives up what was not saved, so that a disk that is full does not stay
// so for bytes that nobody was told of.
func (c *claim) fallBack() error {
	err := retry(func() error { return unix.Ftruncate(int(c.file.Fd()), c.saved) })
	if err != nil {
		return os.NewSyscallError("ftruncate", err)
	}
	c.size = c.saved
	return c.p.account(c.id, c.size)
}

// remove deletes the upload.
func (c *claim) remove() error {
	err := removeAt(c.p.dir.File, c.id+metaSuffix)
	if c.file != nil {
		err = errors.Join(err, removeAt(c.p.dir.File, c.id+partSuffix))
	}
	c.p.forget(c.id)
	return err
}

func (c *claim) partial() Partial {
	p := Partial{ID: c.id, Offset: c.size, Length: c.meta.Length, Receipt: c.meta.Receipt, Expires: c.used.Add(c.p.limits.MaxAge)}
	if c.file == nil {
		p.Expires = time.Now().Add(doneAge)
	}
	return p
}
