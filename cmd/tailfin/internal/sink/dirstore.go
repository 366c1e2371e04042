package sink

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"syscall"

	"golang.org/x/sys/unix"
)

// nameInUse explains a name that a folder has.
func nameInUse(name string, err error) error {
	switch {
	case errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENOTEMPTY), errors.Is(err, syscall.EEXIST):
		return &NameError{Name: name, Reason: "is that of a folder; use another"}
	case errors.Is(err, syscall.ENAMETOOLONG):
		return &NameError{Name: name, Reason: "is too long for the receiver's file system; use a shorter one"}
	}
	return err
}

// Store writes body to a temporary file, syncs it, renames it to the upload's
// name and syncs the folder. Uploads that end together share the syncs.
func (d *Dir) Store(ctx context.Context, up Upload, body io.Reader) (Receipt, error) {
	if err := CheckName(up.Name); err != nil {
		return Receipt{}, err
	}
	if err := d.use(); err != nil {
		return Receipt{}, err
	}
	defer d.release()
	r, err := d.store(ctx, up.Name, body)
	return r, unavailable(d.url(), err)
}

func (d *Dir) store(ctx context.Context, name string, body io.Reader) (Receipt, error) {
	buf := buffer(&smallBuffers)
	defer smallBuffers.Put(buf)
	n, err := readFull(ctx, body, *buf)
	if err != nil && !errors.Is(err, io.EOF) {
		return Receipt{}, err
	}
	whole := err != nil
	if err := d.slots.take(ctx); err != nil {
		return Receipt{}, err
	}
	defer d.slots.give()

	temp := d.tempName()
	fd, err := createAt(d.in, temp)
	if err != nil {
		return Receipt{}, err
	}
	named := false
	defer func() {
		_ = unix.Close(fd)
		if !named {
			_ = d.discard(temp)
		}
	}()
	sum := sha256.New()
	sum.Write((*buf)[:n])
	if err := writeAll(fd, (*buf)[:n]); err != nil {
		return Receipt{}, err
	}
	size := int64(n)
	if !whole {
		_, _ = lockFile(fd) // tells a second daemon that this is at work, however slowly
		rest, err := d.writeRest(ctx, fd, sum, body)
		if err != nil {
			return Receipt{}, err
		}
		size += rest
	}
	a := &arrival{fd: fd, name: name, size: size, take: func() error {
		err := renameAt(d.in, temp, d.top.File, name)
		named = err == nil
		return err
	}}
	if err := d.top.finish(a); err != nil {
		return Receipt{}, err
	}
	return receipt(name, size, sum), nil
}

func (d *Dir) writeRest(ctx context.Context, fd int, sum hash.Hash, body io.Reader) (n int64, err error) {
	err = copyChunks(ctx, body, func(p []byte) error {
		sum.Write(p)
		n += int64(len(p))
		return writeAll(fd, p)
	})
	return n, err
}

func receipt(name string, size int64, sum hash.Hash) Receipt {
	return Receipt{Name: name, Bytes: size, SHA256: hex.EncodeToString(sum.Sum(nil))}
}
