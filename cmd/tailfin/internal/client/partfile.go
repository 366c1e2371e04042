package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

const (
	partSuffix = ".part"
	noteSuffix = ".part.json"
	// maxNote bounds what is read of a note.
	maxNote = 64 << 10
	// checkpointEvery is how many bytes may be lost to a crash of the machine: only
	// what is known to be on the disk is resumed from.
	checkpointEvery = 32 << 20
)

// A partFile gathers a body in FILE.part, beside a note in FILE.part.json that says
// what it is part of and how much of it is durable. The note is written before the
// part and removed after it, so that a part without a note is not ours.
type partFile struct {
	path  string      // of the file it becomes
	perm  fs.FileMode // that the file had and will have; 0 if it is new
	held  held
	saved int64    // bytes that the note vouches for
	every int64    // bytes between checkpoints
	file  *os.File // nil until the first byte is due
}

var _ target = (*partFile)(nil)

// openPart prepares path. With resume it takes up what an earlier run has left
// of the same URL.
func openPart(path, url string, resume bool) (*partFile, error) {
	// The rename replaces the file that a link points to, and not the link.
	if behind, err := filepath.EvalSymlinks(path); err == nil {
		path = behind
	}
	p := &partFile{path: path, every: checkpointEvery, held: held{URL: url, Length: -1}}
	if info, err := os.Stat(path); err == nil {
		p.perm = info.Mode().Perm()
	}
	if err := unix.Access(filepath.Dir(path), unix.W_OK); err != nil {
		return nil, fmt.Errorf("write into folder %s: %w", filepath.Dir(path), err)
	}
	if !resume {
		return p, nil
	}
	if err := p.takeUp(); err != nil {
		p.abandon()
		return nil, err
	}
	return p, nil
}

// takeUp opens the part of an earlier run, if it is one of this URL.
func (p *partFile) takeUp() error {
	note, err := p.readNote()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if note.URL != p.held.URL {
		return fmt.Errorf("%s is of %s; remove it, or leave -C out to write over it", p.path+partSuffix, note.URL)
	}
	if err := p.open(0); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	info, err := p.file.Stat()
	if err != nil {
		return err
	}
	if !note.resumable() || note.Bytes > info.Size() || note.Length >= 0 && note.Bytes > note.Length {
		note.Bytes = 0
	}
	p.held, p.saved = note, note.Bytes
	if err := p.file.Truncate(note.Bytes); err != nil {
		return err
	}
	_, err = p.file.Seek(note.Bytes, io.SeekStart)
	return err
}

func (p *partFile) readNote() (held, error) {
	f, err := os.Open(p.path + noteSuffix)
	if err != nil {
		return held{}, err
	}
	defer func() { _ = f.Close() }()
	var note held
	if err := json.NewDecoder(io.LimitReader(f, maxNote)).Decode(&note); err != nil {
		return held{}, fmt.Errorf("%s: %w; remove it, or leave -C out", f.Name(), err)
	}
	return note, nil
}

// open opens the part and locks it against other runs, which would mix their
// bytes into it.
func (p *partFile) open(flags int) error {
	perm := fs.FileMode(0o644)
	if p.perm != 0 {
		perm = 0o600 // until it takes the place of a file that may be nobody else's business
	}
	for {
		f, err := os.OpenFile(p.path+partSuffix, os.O_RDWR|flags, perm)
		if err != nil {
			return err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			_ = f.Close()
			return fmt.Errorf("another run is writing %s: %w", p.path+partSuffix, err)
		}
		// The one that had the lock may have renamed or removed what was opened.
		mine, err1 := f.Stat()
		there, err2 := os.Stat(p.path + partSuffix)
		if err1 == nil && err2 == nil && os.SameFile(mine, there) {
			p.file = f
			return nil
		}
		_ = f.Close()
		if flags&os.O_CREATE == 0 {
			return fs.ErrNotExist
		}
	}
}

// hash feeds what is here of the body to w.
func (p *partFile) hash(w io.Writer) error {
	if p.file == nil {
		return nil
	}
	_, err := io.Copy(w, io.NewSectionReader(p.file, 0, p.held.Bytes))
	return err
}

func (p *partFile) begin(h held) error {
	p.held = h
	p.held.Bytes, p.saved = 0, 0
	if p.file == nil {
		if err := p.create(); err != nil {
			return &FileError{p.path + partSuffix, err, true}
		}
	}
	if err := p.restart(); err != nil {
		return &FileError{p.path + partSuffix, err, true}
	}
	return nil
}

// create makes the part file, or opens one that an earlier run has left.
func (p *partFile) create() error {
	_, err := os.Lstat(p.path + partSuffix)
	if _, noteErr := os.Lstat(p.path + noteSuffix); err == nil && noteErr != nil {
		return errors.New("is there already, and is not of tailfin; move it away")
	}
	if err := p.writeNote(); err != nil {
		return err
	}
	return p.open(os.O_CREATE)
}

func (p *partFile) restart() error {
	p.held.Bytes, p.saved = 0, 0
	if p.file == nil {
		return nil
	}
	if err := p.file.Truncate(0); err != nil {
		return err
	}
	if _, err := p.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return p.writeNote()
}

func (p *partFile) Write(b []byte) (int, error) {
	n, err := p.file.Write(b)
	p.held.Bytes += int64(n)
	if err == nil && p.held.Bytes-p.saved >= p.every && !p.held.none() {
		err = p.checkpoint()
	}
	return n, err
}

// checkpoint makes what is here durable, and lets the note vouch for it.
func (p *partFile) checkpoint() error {
	if err := p.file.Sync(); err != nil {
		return err
	}
	return p.writeNote()
}

func (p *partFile) writeNote() error {
	text, err := json.Marshal(p.held)
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(p.path+noteSuffix, append(text, '\n'), 0o644); err != nil {
		return err
	}
	p.saved = p.held.Bytes
	return nil
}

func (p *partFile) commit() error {
	var err error
	if p.perm != 0 {
		err = p.file.Chmod(p.perm)
	}
	if err == nil {
		err = p.file.Sync()
	}
	if err == nil {
		err = os.Rename(p.path+partSuffix, p.path)
	}
	if err != nil {
		return &FileError{p.path, err, false}
	}
	_ = os.Remove(p.path + noteSuffix)
	_ = p.file.Close()
	return syncFolder(filepath.Dir(p.path))
}

// syncFolder makes a rename in it durable.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}

func (p *partFile) abandon() string {
	if p.file == nil {
		return ""
	}
	defer func() { _ = p.file.Close() }()
	if p.held.Bytes > 0 && !p.held.none() && p.checkpoint() == nil {
		return fmt.Sprintf("%s keeps %d bytes; the same command with -C goes on there", p.path+partSuffix, p.held.Bytes)
	}
	// Still locked: the part first, so that no part is ever without its note.
	_ = os.Remove(p.path + partSuffix)
	_ = os.Remove(p.path + noteSuffix)
	if p.held.Bytes > 0 {
		return "nothing is kept: the server names no version (a strong ETag, or Last-Modified) to resume by"
	}
	return ""
}
