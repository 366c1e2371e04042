package sink

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The files of an unfinished upload, in the folder partialsFolder:
//
//	ID.part    what has arrived
//	ID.json    what is known of it; renamed into place, so never torn
//	ID.new     the next ID.json, if a crash came between
//	ID.wanted  another process asks who writes ID.part to stop
//
// Who reads or writes an upload has the lock (flock(2)) of ID.part. An upload that
// is complete has ID.json alone, for a while.
const (
	partialsFolder = ".uploads"
	partSuffix     = ".part"
	metaSuffix     = ".json"
	newSuffix      = ".new"
	wantedSuffix   = ".wanted"
)

// maxMeta bounds an ID.json when it is read, in bytes.
const maxMeta = 64 << 10

// partialMeta is an ID.json.
type partialMeta struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	Length  int64     `json:"length"` // -1 if it is not known
	// Offset bytes were durable when this was written, which is before any client was
	// told so. After a power failure ID.part may have more, of which nobody knows
	// what they are.
	Offset int64 `json:"offset"`
	// Hash is the state of SHA-256 over those bytes.
	Hash []byte `json:"hash"`
	// Boot is the boot of the system that it was written in.
	Boot string `json:"boot"`
	// Receipt is set before ID.part is renamed to Name: without ID.part the
	// upload is complete.
	Receipt *Receipt `json:"receipt,omitempty"`
}

// bootID tells a restart of the daemon, after which all that it wrote is there,
// from one of the system. Empty, where the system has none, never matches.
var bootID = sync.OnceValue(func() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(bytes.TrimSpace(b))
})

// resumeHash is the hash of the first Offset bytes.
func (m *partialMeta) resumeHash() (hash.Hash, error) {
	sum := sha256.New()
	if m.Offset == 0 && len(m.Hash) == 0 {
		return sum, nil
	}
	state, ok := sum.(encoding.BinaryUnmarshaler)
	if !ok {
		return nil, errors.New("SHA-256 cannot go on from a saved state")
	}
	return sum, state.UnmarshalBinary(m.Hash)
}

// setHash records the hash of the first offset bytes.
func (m *partialMeta) setHash(sum hash.Hash, offset int64) error {
	state, ok := sum.(encoding.BinaryMarshaler)
	if !ok {
		return errors.New("SHA-256 has no state to save")
	}
	b, err := state.MarshalBinary()
	if err != nil {
		return err
	}
	m.Offset, m.Hash, m.Boot = offset, b, bootID()
	return nil
}

// save makes ID.json durable.
func (p *partials) save(id string, m *partialMeta) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	next := id + newSuffix
	var fd int
	err = retry(func() error {
		fd, err = unix.Openat(int(p.dir.Fd()), next, unix.O_CREAT|unix.O_TRUNC|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o644)
		return err
	})
	if err != nil {
		return pathError("create", p.dir.File, next, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err = writeAll(fd, b); err == nil {
		err = p.dir.finish(&arrival{fd: fd, name: id + metaSuffix, size: int64(len(b)), take: func() error {
			return renameAt(p.dir.File, next, p.dir.File, id+metaSuffix)
		}})
	}
	if err != nil {
		_ = removeAt(p.dir.File, next)
	}
	return err
}

// load reads ID.json.
func (p *partials) load(id string) (*partialMeta, error) {
	f, err := openAt(p.dir.File, id+metaSuffix, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxMeta))
	if err != nil {
		return nil, err
	}
	m := &partialMeta{}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("read %s: %w: %w", f.Name(), err, ErrNoUpload)
	}
	return m, nil
}
