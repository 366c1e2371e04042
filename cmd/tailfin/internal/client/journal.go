package client

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
)

// A journal remembers one upload over runs, so that a later one can go on with
// it. It is a file in $XDG_STATE_HOME/tailfin/uploads, named by URL and file.
// Whoever has the Location may write to the upload: the folder is the user's own.
// The zero value remembers nothing.
type journal struct{ path string }

// A journalEntry is what a journal remembers.
type journalEntry struct {
	URL      string    `json:"url"`
	File     string    `json:"file"`
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
	Location string    `json:"location"`
}

// stateFolder is where the XDG Base Directory Specification puts such files.
func stateFolder() (string, error) {
	base := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(base) { // one that is not absolute is to be ignored
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(base, "tailfin", "uploads"), nil
}

// openJournal returns the journal of an upload of file to target.
func openJournal(target *url.URL, file string) (journal, error) {
	dir, err := stateFolder()
	if err != nil {
		return journal{}, err
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return journal{}, err
	}
	key := sha256.Sum256([]byte(target.String() + "\n" + abs))
	return journal{filepath.Join(dir, hex.EncodeToString(key[:16])+".json")}, nil
}

// load returns what an earlier run has left, false if that is nothing of use.
func (j journal) load() (journalEntry, bool) {
	f, err := os.Open(j.path)
	if err != nil {
		return journalEntry{}, false
	}
	defer func() { _ = f.Close() }()
	var e journalEntry
	err = json.NewDecoder(io.LimitReader(f, maxNote)).Decode(&e)
	return e, err == nil && e.Location != ""
}

func (j journal) save(e journalEntry) error {
	if j.path == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(j.path), 0o700); err != nil {
		return err
	}
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return renameio.WriteFile(j.path, append(text, '\n'), 0o600)
}

func (j journal) remove() {
	if j.path != "" {
		_ = os.Remove(j.path)
	}
}

// entry describes the upload at location.
func (s *source) entry(target, location *url.URL) journalEntry {
	abs, _ := filepath.Abs(s.file.Name())
	return journalEntry{URL: target.String(), File: abs, Size: s.size, Modified: s.modified, Location: location.String()}
}

// matches tells an entry that is of the file as it is now.
func (e journalEntry) matches(s *source) error {
	if e.Size != s.size || !e.Modified.Equal(s.modified) {
		return fmt.Errorf("%s has changed since", e.File)
	}
	return nil
}

// resource is where the upload of the entry goes on.
func (e journalEntry) resource(s *Session, target *url.URL) (*uploadResource, error) {
	h := textproto.MIMEHeader{}
	h.Set(fieldLocation, e.Location)
	return newResource(s, target, h)
}
