package client

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A draftServer takes uploads as draft-ietf-httpbis-resumable-upload says. Faults
// are planned for its requests that bring content, in their order.
type draftServer struct {
	location func(id string) string // of an upload resource; nil offers none
	limit    string                 // Upload-Limit
	interop  string                 // of the 104, "8" if empty
	plan     []fault
	state    string // folder of the client's journals

	mu      sync.Mutex
	uploads map[string]*gathered
	stored  map[string][]byte // by path of the target
	log     []string          // method, offset and number of bytes of each request
	headers []http.Header
	changes func() // is called once, after the first fault
}

// A fault is what goes wrong with a request after some bytes of its content.
type fault struct {
	after  int  // bytes that are kept; -1 keeps all
	status int  // is answered then; 0 resets the stream
	final  bool // the answer says that the upload is complete
}

// gathered is an upload resource.
type gathered struct {
	target   string
	data     []byte
	length   int64
	complete bool
	busy     sync.Mutex
}

var errFault = errors.New("planned fault")

func (d *draftServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	d.headers = append(d.headers, r.Header.Clone())
	up := d.uploads[r.URL.Path]
	d.mu.Unlock()
	switch {
	case r.Method == http.MethodPut:
		d.create(w, r)
	case up == nil:
		d.note("%s nothing", r.Method)
		http.Error(w, "no such upload", http.StatusNotFound)
	case r.Method == http.MethodHead:
		up.busy.Lock()
		defer up.busy.Unlock()
		d.note("HEAD %d", len(up.data))
		d.describe(w, up)
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPatch:
		d.append(w, r, up)
	case r.Method == http.MethodDelete:
		d.note("DELETE")
		d.mu.Lock()
		delete(d.uploads, r.URL.Path)
		d.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	}
}

func (d *draftServer) describe(w http.ResponseWriter, up *gathered) {
	h := w.Header()
	h.Set(fieldOffset, strconv.Itoa(len(up.data)))
	h.Set(fieldComplete, map[bool]string{true: "?1", false: "?0"}[up.complete])
	h.Set(fieldLength, strconv.FormatInt(up.length, 10))
	if d.limit != "" {
		h.Set(fieldLimit, d.limit)
	}
}

func (d *draftServer) create(w http.ResponseWriter, r *http.Request) {
	up := &gathered{target: r.URL.Path, length: r.ContentLength}
	invited := r.Header.Get(fieldComplete) == "?1" && r.Header.Get(fieldInterop) == "8" && d.location != nil
	if !invited {
		up.length = -1
	} else {
		if r.Header.Get(fieldLength) != strconv.FormatInt(r.ContentLength, 10) {
			http.Error(w, "inconsistent lengths", http.StatusBadRequest)
			return
		}
		d.mu.Lock()
		if d.uploads == nil {
			d.uploads = map[string]*gathered{}
		}
		loc := d.location(fmt.Sprintf("/.uploads/%d", len(d.uploads)))
		d.uploads[fmt.Sprintf("/.uploads/%d", len(d.uploads))] = up
		d.mu.Unlock()
		w.Header().Set("Location", loc)
		w.Header().Set(fieldInterop, cmpOr(d.interop, "8"))
		if d.limit != "" {
			w.Header().Set(fieldLimit, d.limit)
		}
		w.WriteHeader(statusResumption)
		clear(w.Header())
	}
	d.take(w, r, up, invited, true)
}

func (d *draftServer) append(w http.ResponseWriter, r *http.Request, up *gathered) {
	offset, ok := integer(r.Header.Get(fieldOffset))
	last := r.Header.Get(fieldComplete)
	if !ok || r.Header.Get("Content-Type") != mediaTypePartial || last != "?0" && last != "?1" {
		http.Error(w, "not as the draft says", http.StatusBadRequest)
		return
	}
	if up.busy.Lock(); offset != int64(len(up.data)) {
		d.describe(w, up)
		up.busy.Unlock()
		d.note("PATCH %d conflicts", offset)
		http.Error(w, "mismatching offset", http.StatusConflict)
		return
	}
	up.busy.Unlock()
	d.take(w, r, up, true, last == "?1")
}

// take gathers the content of a request, and answers it.
func (d *draftServer) take(w http.ResponseWriter, r *http.Request, up *gathered, keeps, last bool) {
	d.mu.Lock()
	f := fault{after: -1}
	if len(d.plan) > 0 {
		f, d.plan = d.plan[0], d.plan[1:]
	}
	d.mu.Unlock()
	up.busy.Lock()
	defer up.busy.Unlock()
	before := len(up.data)
	body := io.Reader(r.Body)
	if f.after >= 0 {
		body = io.LimitReader(body, int64(f.after))
	}
	got, err := io.ReadAll(body)
	if keeps || err == nil && f.after < 0 {
		up.data = append(up.data, got...)
	}
	d.note("%s %d+%d", r.Method, before, len(got))
	if keeps {
		w.Header().Set(fieldOffset, strconv.Itoa(len(up.data)))
		w.Header().Set(fieldInterop, "8")
		w.WriteHeader(statusResumption)
		clear(w.Header())
	}
	whole := err == nil && f.after < 0 && last
	if whole {
		up.complete = true
		d.mu.Lock()
		if d.stored == nil {
			d.stored = map[string][]byte{}
		}
		d.stored[up.target] = up.data
		d.mu.Unlock()
	}
	if f.after >= 0 || f.status != 0 {
		d.fail(w, r, f)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if keeps {
		w.Header().Set(fieldComplete, map[bool]string{true: "?1", false: "?0"}[whole])
	}
	if !whole {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	sum := sha256.Sum256(up.data)
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(map[string]any{"bytes": len(up.data), "sha256": hex.EncodeToString(sum[:])})
}

func (d *draftServer) fail(w http.ResponseWriter, r *http.Request, f fault) {
	d.mu.Lock()
	changes := d.changes
	d.changes = nil
	d.mu.Unlock()
	if changes != nil {
		changes()
	}
	if f.status == 0 {
		// A reset takes back the 104 that is on its way. The client writes down that it
		// has it.
		for deadline := time.Now().Add(patience); d.offers() && r.Context().Err() == nil && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if entries, _ := os.ReadDir(d.state); len(entries) > 0 {
				break
			}
		}
		panic(http.ErrAbortHandler)
	}
	if f.final {
		w.Header().Set(fieldComplete, "?1")
	}
	http.Error(w, errFault.Error(), f.status)
}

// offers tells a server whose 104 the client takes.
func (d *draftServer) offers() bool {
	return d.location != nil && d.interop == "" && !strings.Contains(d.location("/"), "192.0.2.1")
}

func (d *draftServer) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = append(d.log, fmt.Sprintf(format, args...))
}

// requests is what was asked, in order.
func (d *draftServer) requests() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.log, ", ")
}

func (d *draftServer) body(path string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stored[path]
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
