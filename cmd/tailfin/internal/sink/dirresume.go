package sink

import (
	"context"
	"errors"
	"hash"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// saveEvery is how much of an upload arrives, in bytes, before its offset is saved:
// the most that a failure of power takes, and that is read again after a crash.
const saveEvery = 64 << 20

// Create makes the files of an upload.
func (d *Dir) Create(_ context.Context, up Upload, length int64) (Partial, error) {
	if err := CheckName(up.Name); err != nil {
		return Partial{}, err
	}
	if err := d.use(); err != nil {
		return Partial{}, err
	}
	defer d.release()
	part, err := d.resumable.create(up, length)
	return part, unavailable(d.url(), err)
}

func (p *partials) create(up Upload, length int64) (Partial, error) {
	id := newUploadID()
	if err := p.admit(id); err != nil {
		return Partial{}, err
	}
	now := time.Now()
	meta := &partialMeta{Name: up.Name, Created: now, Length: length, Boot: bootID()}
	fd, err := createAt(p.dir.File, id+partSuffix)
	if err == nil {
		_ = unix.Close(fd)
		if err = p.save(id, meta); err != nil {
			_ = removeAt(p.dir.File, id+partSuffix)
		}
	}
	if err != nil {
		p.forget(id)
		return Partial{}, err
	}
	return Partial{ID: id, Length: length, Expires: now.Add(p.limits.MaxAge)}, nil
}

// Find returns how far an upload has come.
func (d *Dir) Find(ctx context.Context, id string) (Partial, error) {
	if err := d.use(); err != nil {
		return Partial{}, err
	}
	defer d.release()
	part, err := d.resumable.find(ctx, id)
	return part, unavailable(d.url(), err)
}

func (p *partials) find(ctx context.Context, id string) (Partial, error) {
	c, err := p.claim(ctx, id, nil, true)
	if err != nil {
		return Partial{}, err
	}
	defer c.release()
	if c.file != nil && c.size != c.saved {
		// A crash came before this was saved. What is told must be durable.
		sum, err := c.hashed(ctx)
		if err == nil {
			err = c.save(sum)
		}
		if err != nil {
			return Partial{}, err
		}
	}
	return c.partial(), nil
}

// Cancel removes an upload.
func (d *Dir) Cancel(ctx context.Context, id string) error {
	if err := d.use(); err != nil {
		return err
	}
	defer d.release()
	c, err := d.resumable.claim(ctx, id, nil, true)
	if err != nil {
		return err
	}
	defer c.release()
	return c.remove()
}

// Append adds body to an upload, and completes it if part says so.
func (d *Dir) Append(ctx context.Context, id string, part Part, body io.ReadCloser) (Partial, error) {
	if err := d.use(); err != nil {
		return Partial{}, err
	}
	defer d.release()
	got, err := d.resumable.append(ctx, id, part, body)
	return got, unavailable(d.url(), err)
}

func (p *partials) append(ctx context.Context, id string, part Part, body io.ReadCloser) (Partial, error) {
	c, err := p.claim(ctx, id, body, true)
	if err != nil {
		return Partial{}, err
	}
	defer c.release()
	if c.file == nil {
		if part.Complete && part.Offset == c.size && (part.Length < 0 || part.Length == c.size) {
			return c.partial(), nil // its client has lost the answer
		}
		return Partial{}, &OffsetError{Want: c.size, Got: part.Offset, Complete: true}
	}
	if part.Offset != c.size {
		return Partial{}, &OffsetError{Want: c.size, Got: part.Offset}
	}
	changed, err := c.learnLength(part.Length)
	if err != nil {
		return Partial{}, err
	}
	if err := p.d.slots.take(ctx); err != nil {
		return Partial{}, err
	}
	defer p.d.slots.give()
	sum, err := c.hashed(ctx)
	if err != nil {
		return Partial{}, err
	}
	if err := c.receive(ctx, sum, body); err != nil {
		return Partial{}, err
	}
	switch {
	case part.Complete:
		if err := c.complete(sum); err != nil {
			return Partial{}, err
		}
	case changed || c.size != c.saved:
		if err := c.save(sum); err != nil {
			return Partial{}, errors.Join(err, c.fallBack())
		}
	}
	return c.partial(), nil
}

// learnLength takes the length of the upload that a request says, -1 for none.
func (c *claim) learnLength(length int64) (changed bool, err error) {
	switch known := c.meta.Length; {
	case length < 0 || length == known:
		return false, nil
	case known >= 0:
		return false, &LengthError{Want: known, Got: length}
	case length < c.size:
		return false, &LengthError{Want: length, Got: c.size}
	}
	c.meta.Length = length
	return true, nil
}

// receive writes body to the end of ID.part. Whatever ends body, what came is saved.
func (c *claim) receive(ctx context.Context, sum hash.Hash, body io.Reader) error {
	if _, err := c.file.Seek(c.size, io.SeekStart); err != nil {
		return err
	}
	defer c.watch()()
	var storage error
	err := copyChunks(ctx, body, func(b []byte) error {
		size := c.size + int64(len(b))
		if c.meta.Length >= 0 && size > c.meta.Length {
			return &LengthError{Want: c.meta.Length, Got: size}
		}
		if err := c.p.account(c.id, size); err != nil {
			return err
		}
		if storage = writeAll(int(c.file.Fd()), b); storage != nil {
			return storage
		}
		sum.Write(b)
		c.size, c.used = size, time.Now()
		if c.size-c.saved >= saveEvery {
			storage = c.save(sum)
		}
		return storage
	})
	var length *LengthError
	switch {
	case err == nil:
		return nil
	case storage != nil:
		return errors.Join(storage, c.fallBack())
	case errors.As(err, &length):
		return errors.Join(err, c.remove()) // nobody knows which of the two is meant
	}
	if c.size != c.saved {
		if serr := c.save(sum); serr != nil {
			return errors.Join(serr, c.fallBack())
		}
	}
	if c.writer.superseded.Load() {
		return ErrSuperseded
	}
	return err
}

// complete gives the upload its name.
func (c *claim) complete(sum hash.Hash) error {
	if c.meta.Length >= 0 && c.size != c.meta.Length {
		err := error(&LengthError{Want: c.meta.Length, Got: c.size})
		if c.size != c.saved {
			err = errors.Join(err, c.save(sum))
		}
		return err
	}
	c.meta.Length = c.size
	r := receipt(c.meta.Name, c.size, sum)
	c.meta.Receipt = &r
	if err := c.save(sum); err != nil {
		return errors.Join(err, c.fallBack())
	}
	d, part := c.p.d, c.id+partSuffix
	err := d.top.finish(&arrival{fd: int(c.file.Fd()), name: r.Name, size: c.size, take: func() error {
		return renameAt(c.p.dir.File, part, d.top.File, r.Name)
	}})
	var bad *NameError
	if errors.As(err, &bad) {
		return errors.Join(err, c.remove()) // it can never be stored
	}
	if err != nil {
		return err
	}
	c.p.complete(c.id)
	_ = c.file.Close()
	c.file = nil
	return nil
}
