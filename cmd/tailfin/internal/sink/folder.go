package sink

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A folder is one in which files get their names durably.
type folder struct {
	*os.File
	commits *batcher[*arrival]
}

func openFolder(path string) (*folder, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return newFolder(f), nil
}

func newFolder(f *os.File) *folder {
	dir := &folder{File: f}
	dir.commits = &batcher[*arrival]{run: dir.commit}
	return dir
}

// openBelow opens a folder in dir, and makes it if it is missing. It follows no
// symbolic link: what the sink removes by itself must be below its own folder.
func openBelow(dir *os.File, name string) (*os.File, error) {
	err := retry(func() error { return unix.Mkdirat(int(dir.Fd()), name, 0o755) })
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, pathError("make folder", dir, name, err)
	}
	var fd int
	err = retry(func() (err error) {
		fd, err = unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return err
	})
	switch {
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return nil, fmt.Errorf("%w; it has to be a folder, and no link to one", pathError("open", dir, name, err))
	case err != nil:
		return nil, pathError("open", dir, name, err)
	}
	return os.NewFile(uintptr(fd), dir.Name()+"/"+name), nil
}

// An arrival is a file whose content is written and that is to get its name.
type arrival struct {
	fd   int
	name string
	take func() error // renames the file to name
	size int64
	err  error // after the commit
}

// batchedSync is the longest file, in bytes, whose data is synced in the batch.
// A longer one is synced before, lest all others wait for it.
const batchedSync = 256 << 10

// finish makes a whole file durable under its name. Files that come together
// share the syncs.
func (f *folder) finish(a *arrival) error {
	if a.size > batchedSync {
		if err := syncFile(a.fd); err != nil {
			return err
		}
	}
	f.commits.do(a)
	return a.err
}

// syncers is how many files of a batch are synced at once. On ext4 one does
// nearly all the work of the batch, since a commit of the journal is for all;
// where a file system syncs each file for itself they go side by side. Measured
// with 64 uploads of 1 kB at once: each file synced by its own caller costs a
// quarter more processor time than 1 or 4 syncers, and 4 have the least latency.
const syncers = 4

// commit makes files durable, then their names. A name must never lead to
// data that may be lost, so all data comes first, and it takes one fsync of the
// folder for all names.
func (f *folder) commit(batch []*arrival) {
	if len(batch) == 1 {
		batch[0].err = syncFile(batch[0].fd)
	} else {
		for _, a := range batch {
			startWrite(a.fd)
		}
		var wg sync.WaitGroup
		for first := range min(syncers, len(batch)) {
			wg.Go(func() {
				for i := first; i < len(batch); i += syncers {
					batch[i].err = syncFile(batch[i].fd)
				}
			})
		}
		wg.Wait()
	}
	renamed := false
	for _, a := range batch {
		if a.err == nil {
			a.err = nameInUse(a.name, a.take())
			renamed = renamed || a.err == nil
		}
	}
	if !renamed {
		return
	}
	// If this fails the files have their names, and nobody knows for how long:
	// their clients are told to send again.
	if err := syncFolder(f.File); err != nil {
		for _, a := range batch {
			a.err = errors.Join(a.err, err)
		}
	}
}
