package sink

import (
	"errors"
	"io/fs"
)

// maxLeft is how many files a Dir remembers that it could not remove. What there is
// beyond them the next start removes.
const maxLeft = 10_000

// discard removes a file of incoming that is not wanted any more. If that fails, Check
// tries again later.
func (d *Dir) discard(name string) error {
	err := removeAt(d.in, name)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.left) < maxLeft {
		d.left = append(d.left, name)
	}
	return err
}

// discardLeft removes what could not be removed before.
func (d *Dir) discardLeft() error {
	d.mu.Lock()
	left := d.left
	d.left = nil
	d.mu.Unlock()
	var first error
	for _, name := range left {
		if err := d.discard(name); err != nil && first == nil {
			first = err
		}
	}
	return first
}
