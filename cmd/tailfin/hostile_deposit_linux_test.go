//go:build !nouring && (amd64 || arm64)

package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/bench/hostile"
)

// A deposit is uploads to a daemon, of which each is answered truly or not at all.
type deposit struct {
	t   *testing.T
	d   *daemon
	tr  *tailfin.Transport
	res hostile.Result

	mu       sync.Mutex
	n        int
	sizes    map[string]int // of all that was begun
	stored   map[string]bool
	statuses map[int]int
	named    bool // a name without a 201 is no fault
}

func newDeposit(t *testing.T, d *daemon, fault string) *deposit {
	return &deposit{t: t, d: d, tr: newTransport(t), sizes: map[string]int{}, stored: map[string]bool{}, statuses: map[int]int{},
		res: hostile.Result{Kind: "kernel", Fault: fault}}
}

// depositSizes are those of the uploads of one round: all in memory before a file is made;
// one that can be resumed; one that is synced by itself.
var depositSizes = []int{1000, 30_000, 400_000}

// round uploads one of each size at once, and returns how many were stored and how many
// were refused by a status of 500 or above. Any other end is lost.
func (p *deposit) round() (stored, refused int) {
	p.t.Helper()
	var wg sync.WaitGroup
	for i, size := range depositSizes {
		p.n++
		name := fmt.Sprintf("u-%d", p.n)
		p.sizes[name] = size
		wg.Go(func() {
			header := []string{"Upload-Complete", "?1", "Upload-Draft-Interop-Version", "8"}
			if i != 1 {
				header = nil
			}
			a, err := send(p.t, p.tr, http.MethodPut, "https://"+p.d.addr+"/"+name, bytes.NewReader(crashBody(name, size)), header...)
			p.mu.Lock()
			defer p.mu.Unlock()
			switch {
			case err != nil:
				p.res.Lost++
				p.t.Errorf("%s of %d bytes: %v", name, size, err)
			case a.StatusCode == http.StatusCreated:
				p.stored[name] = true
				stored++
			case a.StatusCode < 500:
				p.t.Errorf("%s of %d bytes: %s: %s", name, size, a.Status, a.body)
			default:
				refused++
			}
			if err == nil {
				p.statuses[a.StatusCode]++
			}
		})
	}
	wg.Wait()
	return stored, refused
}

// check demands that what was answered 201 is there and whole, and that nothing else has
// a name.
func (p *deposit) check() {
	p.t.Helper()
	entries, err := os.ReadDir(p.d.dir)
	if err != nil {
		p.t.Fatal(err)
	}
	there := map[string]bool{}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") {
			continue
		}
		there[name] = true
		b, err := os.ReadFile(filepath.Join(p.d.dir, name))
		if err != nil || !bytes.Equal(b, crashBody(name, p.sizes[name])) {
			p.res.Corrupt++
			p.t.Errorf("%s has %d bytes that were not sent, of %d: %v", name, len(b), p.sizes[name], err)
		}
		if !p.stored[name] && !p.named {
			p.res.Corrupt++
			p.t.Errorf("%s has its name, and was not answered 201", name)
		}
	}
	for name, is := range p.stored {
		if is && !there[name] {
			p.res.Lost++
			p.t.Errorf("%s was answered 201 and is not there", name)
		}
	}
}

// unfinished waits until nothing is left in the folder of what has not arrived whole.
func (p *deposit) unfinished() int {
	for range 600 {
		if left, err := os.ReadDir(filepath.Join(p.d.dir, ".incoming")); err == nil && len(left) == 0 {
			return 0
		}
		time.Sleep(10 * time.Millisecond)
	}
	left, _ := os.ReadDir(filepath.Join(p.d.dir, ".incoming"))
	return len(left)
}
