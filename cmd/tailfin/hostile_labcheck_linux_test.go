package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/bench/netlab"
)

// labSeen is what was seen of one fault, on one path or on several.
type labSeen struct {
	paths     []netlab.Stats
	transfers int
	failed    int // of transfers, with an error that says why
	attempts  int // of transfers
	atOnce    int // transfers that needed one attempt
	rebinds   int
	sent      int // uploads with --close-after-fin
	stored    int // of sent, whole
	slowest   time.Duration
}

func (s *labSeen) add(more labSeen) {
	s.paths = append(s.paths, more.paths...)
	s.transfers += more.transfers
	s.failed += more.failed
	s.attempts += more.attempts
	s.atOnce += more.atOnce
	s.rebinds += more.rebinds
	s.sent += more.sent
	s.stored += more.stored
	s.slowest = max(s.slowest, more.slowest)
}

// sum adds a counter up, of both directions.
func (s *labSeen) sum(of func(netlab.Counters) uint64) (n uint64) {
	for _, p := range s.paths {
		n += of(p.Forward) + of(p.Back)
	}
	return n
}

// packets is how many were sent, both ways.
func (s *labSeen) packets() uint64 {
	return s.sum(func(c netlab.Counters) uint64 { return c.Passed + c.Gone() })
}

// bound is for the row of a fault.
func (s *labSeen) bound(c *labCase) string {
	figures, _ := c.happened(*s)
	parts := []string{figures, fmt.Sprintf("slowest transfer %.1f s", s.slowest.Seconds())}
	if s.failed > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d end with an error", s.failed, s.transfers))
	}
	if s.sent > 0 {
		parts = append(parts, fmt.Sprintf("put --close-after-fin: %d of %d are stored whole, of the rest nothing", s.stored, s.sent))
	}
	return strings.Join(parts, "; ")
}

// A labCheck holds what commands say against what is there.
type labCheck struct {
	*labPath
	c   *labCase
	row *hostile.Result
}

// wrong says what is wrong, and what the processes have said of it.
func (k *labCheck) wrong(r *labRun, format string, args ...any) {
	k.t.Helper()
	k.t.Errorf("tailfin %s: %s\nexit %d\n%s%s\nthe daemon:\n%s",
		strings.Join(r.args, " "), fmt.Sprintf(format, args...), r.code, r.stdout, r.stderr, k.log)
}

// ended holds a run against its exit code, and returns its transfers. There must be n.
func (k *labCheck) ended(r *labRun, n int) []labTransfer {
	k.t.Helper()
	list, err := r.transfers()
	failed := 0
	for _, one := range list {
		if one.Error != "" {
			failed++
		}
		k.seen.slowest = max(k.seen.slowest, time.Duration(one.MS)*time.Millisecond)
	}
	want := exitOK
	if failed > 0 {
		want = exitFailed
	}
	k.row.Tries += n
	switch {
	case r.hung, strings.Contains(r.stderr, "goroutine "):
		k.row.Crashed++
		k.wrong(r, "it hangs, or has crashed")
	case err != nil || len(list) != n:
		k.row.Lost += max(1, n-len(list))
		k.wrong(r, "%d lines, want %d, %v", len(list), n, err)
	case r.code != want:
		k.row.Crashed++
		k.wrong(r, "exit code with %d failures, want %d", failed, want)
	}
	return list
}

// transferred counts a put or get that waited for its end.
func (k *labCheck) transferred(r *labRun, one labTransfer) {
	k.t.Helper()
	k.seen.transfers++
	k.seen.attempts += one.Attempts
	if one.Error == "" {
		if one.Attempts == 1 {
			k.seen.atOnce++
		}
		return
	}
	k.seen.failed++
	if !k.c.fails {
		k.row.Lost++
		k.wrong(r, "%s: %s", one.URL, one.Error)
	}
}

// puts checks uploads of a file.
func (k *labCheck) puts(r *labRun, n int, sum string) {
	k.t.Helper()
	for _, one := range k.ended(r, n) {
		k.transferred(r, one)
		is, err := sumOfFile(filepath.Join(k.dir, path.Base(one.URL)))
		switch {
		case errors.Is(err, fs.ErrNotExist) && one.Error != "": // nothing was promised
		case err != nil:
			k.row.Lost++
			k.wrong(r, "%s: %v", one.URL, err)
		case is != sum, one.Error == "" && one.SHA256 != sum:
			k.row.Corrupt++
			k.wrong(r, "%s: sent %s, stored %s, it says %s", one.URL, sum, is, one.SHA256)
		}
	}
}

// gets checks downloads, the last of which is written to a file.
func (k *labCheck) gets(r *labRun, n int, sum, file string) {
	k.t.Helper()
	failed := false
	for _, one := range k.ended(r, n) {
		k.transferred(r, one)
		failed = failed || one.Error != ""
		if one.Error == "" && (one.SHA256 != sum || !one.Complete) || one.Error != "" && one.Complete {
			k.row.Corrupt++
			k.wrong(r, "%s: %s is there, it says %+v", one.URL, sum, one)
		}
	}
	is, err := sumOfFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && failed:
	case err != nil:
		k.row.Lost++
		k.wrong(r, "%v", err)
	case is != sum:
		k.row.Corrupt++
		k.wrong(r, "%s was written, and %s is there", is, sum)
	}
}

// fins checks uploads that waited for nothing: each is stored whole, or not at all.
func (k *labCheck) fins(r *labRun, n int, sum string) {
	k.t.Helper()
	for _, one := range k.ended(r, n) {
		k.seen.sent++
		is, err := sumOfFile(filepath.Join(k.dir, path.Base(one.URL)))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if k.c.fins == finsWhole {
				k.row.Lost++
				k.wrong(r, "%s: nothing was lost on the way, and it is not stored", one.URL)
			}
		case err != nil || is != sum:
			k.row.Corrupt++
			k.wrong(r, "%s: sent %s, stored %s, %v", one.URL, sum, is, err)
		default:
			k.seen.stored++
		}
	}
}

// stopped stops the daemon, and looks at what it leaves: its files, and no others.
func (k *labCheck) stopped(prefixes ...string) {
	k.t.Helper()
	if err := k.end(); err != nil || strings.Contains(k.log.String(), "goroutine ") {
		k.row.Crashed++
		k.t.Errorf("the daemon: %v\n%s", err, k.log)
	}
	for _, name := range k.left(".incoming") {
		k.row.Leaked++
		k.t.Errorf(".incoming/%s is left", name)
	}
next:
	for _, name := range k.left(".") {
		for _, p := range prefixes {
			if strings.HasPrefix(name, p) {
				continue next
			}
		}
		k.row.Leaked++
		k.t.Errorf("%s is in the folder, and was not put there", name)
	}
}
