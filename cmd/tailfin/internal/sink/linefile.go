package sink

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A lineFile is a file, or a pipe, to which whole lines are appended. Lines that
// come together share one write and one sync.
type lineFile struct {
	path  string // empty for one that was open before, which cannot be opened anew
	log   *slog.Logger
	lines *batcher[*line]

	mu      sync.Mutex
	file    *os.File // under mu; nil once closed
	regular bool     // under mu: can be synced, locked and truncated
	buf     []byte   // of a batch; under mu
}

type line struct {
	text []byte // with its newline
	err  error
}

// openLines opens a file to append to, and makes it if it is missing.
func openLines(path string, log *slog.Logger) (*lineFile, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	f := &lineFile{path: path, log: log}
	f.lines = &batcher[*line]{run: f.append}
	if err := f.reopen(); err != nil {
		return nil, err
	}
	return f, nil
}

// wrapLines appends to a file that is open. It is not closed with the lineFile.
func wrapLines(file *os.File, log *slog.Logger) (*lineFile, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	f := &lineFile{log: log, file: file, regular: info.Mode().IsRegular()}
	f.lines = &batcher[*line]{run: f.append}
	return f, nil
}

func (f *lineFile) reopen() error {
	if f.path == "" {
		return nil
	}
	file, err := os.OpenFile(f.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil && info.Mode().IsRegular() {
		if err = locked(file, func() error { return f.mend(file) }); err == nil {
			err = syncParent(f.path) // the name of a new file must outlast a crash too
		}
	}
	if err != nil {
		_ = file.Close()
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file != nil {
		_ = f.file.Close()
	}
	f.file, f.regular = file, info.Mode().IsRegular()
	return nil
}

func syncParent(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return syncFolder(dir)
}

// locked calls f with the lock of file: another process may append to it, and
// must not do so while this one takes back what it could not write whole.
func locked(file *os.File, f func() error) error {
	if err := retry(func() error { return unix.Flock(int(file.Fd()), unix.LOCK_EX) }); err != nil {
		return os.NewSyscallError("flock", err)
	}
	defer func() { _ = unix.Flock(int(file.Fd()), unix.LOCK_UN) }()
	return f()
}

// maxTorn bounds how far back the begin of an unfinished line is looked for, in bytes.
const maxTorn = 16 << 20

// mend sees to it that the file ends with a newline. A crash, or a full disk of an
// older kernel, can leave a part of a record, which nobody was told is
// stored: it is cut off. A last line that is whole JSON gets its newline. Anything
// else was not written here, and is left alone with an error.
func (f *lineFile) mend(file *os.File) error {
	info, err := file.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	start := max(0, info.Size()-maxTorn)
	// Most often the last byte is all there is to see.
	last := make([]byte, 1)
	if _, err := file.ReadAt(last, info.Size()-1); err != nil {
		return err
	}
	if last[0] == '\n' {
		return nil
	}
	tail, err := io.ReadAll(io.NewSectionReader(file, start, info.Size()-start))
	if err != nil {
		return err
	}
	torn := tail[bytes.LastIndexByte(tail, '\n')+1:]
	begin := string(torn[:min(len(torn), len(recordStart))])
	switch {
	case json.Valid(torn):
		f.log.Warn("ended the last line of the sink's file, which had no newline", "file", f.path)
		if err := writeAll(int(file.Fd()), []byte{'\n'}); err != nil {
			return err
		}
	case strings.HasPrefix(recordStart, begin) && len(torn) < maxTorn:
		f.log.Warn("cut off an unfinished record at the end of the sink's file; its client was not told that it is stored",
			"file", f.path, "bytes", len(torn))
		if err := file.Truncate(info.Size() - int64(len(torn))); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%s does not end with a newline, and its last line is no record; name another file, or mend this one", f.path)
	}
	return syncFile(int(file.Fd()))
}

// write returns when the line is in the file, and durable if the file is regular.
func (f *lineFile) write(text []byte) error {
	l := &line{text: text}
	f.lines.do(l)
	return l.err
}

// append writes a batch of lines.
func (f *lineFile) append(batch []*line) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fail := func(err error) {
		for _, l := range batch {
			l.err = errors.Join(l.err, err)
		}
	}
	if f.file == nil {
		fail(ErrClosed)
		return
	}
	if !f.regular {
		for _, l := range batch {
			l.err = f.writePipe(l.text)
		}
		return
	}
	err := locked(f.file, func() error {
		f.buf = f.buf[:0]
		for _, l := range batch {
			f.buf = append(f.buf, l.text...)
		}
		if err := f.writeWhole(f.buf); err == nil || len(batch) == 1 {
			return err
		}
		// Where all do not fit some may.
		for _, l := range batch {
			l.err = f.writeWhole(l.text)
		}
		return nil
	})
	if cap(f.buf) > maxPooledLine {
		f.buf = nil
	}
	if err == nil && slices.ContainsFunc(batch, func(l *line) bool { return l.err == nil }) {
		err = syncFile(int(f.file.Fd()))
	}
	if err != nil {
		fail(err)
	}
}

// writeWhole appends text or nothing. The caller has the lock of the file.
func (f *lineFile) writeWhole(text []byte) error {
	info, err := f.file.Stat()
	if err != nil {
		return err
	}
	if err := writeAll(int(f.file.Fd()), text); err != nil {
		return errors.Join(err, f.takeBack(info.Size()))
	}
	return nil
}

// takeBack removes what a failed write has left behind size. Standard output may
// have been opened without O_APPEND, so its offset goes back too.
func (f *lineFile) takeBack(size int64) error {
	if err := f.file.Truncate(size); err != nil {
		return fmt.Errorf("an unfinished line is left: %w", err)
	}
	_, err := f.file.Seek(size, io.SeekStart)
	return err
}

// writePipe writes a line in one call where the kernel takes it whole, as it does
// unless a pipe is in non-blocking mode.
func (f *lineFile) writePipe(text []byte) error {
	fd := int(f.file.Fd())
	for len(text) > 0 {
		n, err := unix.Write(fd, text)
		switch {
		case errors.Is(err, unix.EAGAIN):
			_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1)
			if err != nil && !errors.Is(err, unix.EINTR) {
				return os.NewSyscallError("poll", err)
			}
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return &UnavailableError{Sink: "ndjson:-", Err: os.NewSyscallError("write", err)}
		}
		text = text[max(n, 0):]
	}
	return nil
}

// check tells whether the file system could take a line.
func (f *lineFile) check() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return ErrClosed
	}
	if !f.regular {
		return nil
	}
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(int(f.file.Fd()), &st) }); err != nil {
		return os.NewSyscallError("fstatfs", err)
	}
	if st.Flags&readOnlyFlag != 0 {
		return &os.PathError{Op: "write", Path: f.file.Name(), Err: unix.EROFS}
	}
	if st.Bavail == 0 {
		return &os.PathError{Op: "write", Path: f.file.Name(), Err: unix.ENOSPC}
	}
	return nil
}

func (f *lineFile) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return nil
	}
	file := f.file
	f.file = nil
	if f.path == "" {
		return nil
	}
	return file.Close()
}
