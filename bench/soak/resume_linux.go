package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin"
)

// The fields and codes of draft-ietf-httpbis-resumable-upload, of the interop version that
// serve speaks.
const (
	fieldUploadComplete = "Upload-Complete"
	fieldUploadOffset   = "Upload-Offset"
	fieldUploadLength   = "Upload-Length"
	fieldUploadInterop  = "Upload-Draft-Interop-Version"
	interopVersion      = "8"
	mediaTypePartial    = "application/partial-upload"
	statusResumption    = 104
)

// A resumed is an upload that is cut on purpose, and goes on where it was.
type resumed struct {
	load     *load
	tr       *tailfin.Transport
	name     string
	content  content
	location string // where it goes on; empty until the server has said
	offset   int64  // that the server has told last
}

// resuming uploads with up to three cuts.
func (l *load) resuming(rng *rand.Rand, id int) {
	tr := l.transport()
	defer func() { _ = tr.Close() }()
	for n := 0; l.pause(within(rng, time.Second, 4*time.Second)); n++ {
		u := &resumed{load: l, tr: tr, name: fmt.Sprintf("%s-%d-%d", resume, id, n), content: l.content(upTo(rng, 10_000, 8<<20))}
		begin := time.Now()
		err := u.run(rng)
		if err == nil {
			l.stored(resume, u.name, u.content)
			continue
		}
		l.doubt(resume, u.name, u.content)
		l.failed(resume, begin, "upload of /"+u.name, err)
		u.cancel()
	}
}

// run sends all.
func (u *resumed) run(rng *rand.Rand) error {
	cuts := rng.IntN(4)
	for deadline := time.Now().Add(2 * requestTimeout); ; {
		to := u.content.size
		if cuts > 0 {
			to = u.offset + rng.Int64N(u.content.size-u.offset+1)
		}
		done, err := u.send(to)
		if done {
			return nil
		}
		if to < u.content.size {
			u.load.add(resume, Tally{GivenUp: 1})
		}
		if cuts--; cuts < 0 && time.Now().After(deadline) {
			return err
		}
		var conflict *statusError
		if err != nil && errors.As(err, &conflict) && conflict.status != http.StatusConflict && conflict.status != http.StatusServiceUnavailable {
			return err
		}
		if u.location == "" { // from its start
			u.load.add(resume, Tally{Orphans: 1})
			continue
		}
		if err := u.ask(); err != nil {
			return err
		}
	}
}

// send sends what follows the offset, and gives up at to, unless that is the end. It tells
// whether all was stored.
func (u *resumed) send(to int64) (done bool, err error) {
	ctx, cancel := context.WithTimeout(u.load.ctx, requestTimeout)
	defer cancel()
	method, path, giveUp := http.MethodPatch, u.location, cancel
	location := make(chan string, 1)
	if u.location == "" {
		method, path = http.MethodPut, "/"+u.name
		ctx = on104(ctx, func(h textproto.MIMEHeader) {
			if at, err := url.Parse(h.Get("Location")); err == nil && len(location) == 0 {
				location <- at.Path
			}
		})
		giveUp = func() { // not before it can go on
			for len(location) == 0 && ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
			cancel()
		}
		defer func() {
			select {
			case u.location = <-location:
			default:
			}
		}()
	}
	rest := u.content
	req, err := u.load.request(ctx, method, path, nil)
	if err != nil {
		return false, err
	}
	req.ContentLength = rest.size - u.offset
	req.Body = rest.from(u.offset)
	if to < rest.size {
		req.Body = &cutBody{rest.from(u.offset), to, giveUp}
	}
	if req.ContentLength == 0 {
		req.Body = http.NoBody
	}
	req.Header.Set(fieldUploadInterop, interopVersion)
	req.Header.Set(fieldUploadComplete, "?1")
	req.Header.Set(fieldUploadLength, strconv.FormatInt(rest.size, 10))
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", mediaTypePartial)
		req.Header.Set(fieldUploadOffset, strconv.FormatInt(u.offset, 10))
	}
	err = answered(u.tr, req, http.StatusCreated, func(resp *http.Response) error { return receipt(resp, rest) })
	return err == nil, err
}

// ask learns how far the upload has come. What it has once told is durable.
func (u *resumed) ask() error {
	return u.load.again(resume, func(ctx context.Context) error {
		req, err := u.load.request(ctx, http.MethodHead, u.location, nil)
		if err != nil {
			return err
		}
		req.Header.Set(fieldUploadInterop, interopVersion)
		return answered(u.tr, req, http.StatusNoContent, func(resp *http.Response) error {
			offset, err := strconv.ParseInt(resp.Header.Get(fieldUploadOffset), 10, 64)
			switch {
			case err != nil:
				return fmt.Errorf("offset: %w", err)
			case offset < u.offset || offset > u.content.size:
				return fmt.Errorf("%w: offset %d of an upload of %d bytes, and it was %d before", errCorrupt, offset, u.content.size, u.offset)
			}
			u.offset = offset
			return nil
		})
	})
}

// cancel has the server forget it.
func (u *resumed) cancel() {
	if u.location == "" {
		return
	}
	_ = u.load.again(resume, func(ctx context.Context) error {
		req, err := u.load.request(ctx, http.MethodDelete, u.location, nil)
		if err != nil {
			return err
		}
		return answered(u.tr, req, http.StatusNoContent, func(*http.Response) error { return nil })
	})
}

// killing runs `tailfin put`, kills it, and runs it again, which must go on and end well.
func (l *load) killing(rng *rand.Rand, id int) {
	for n := 0; l.pause(within(rng, 10*time.Second, 20*time.Second)); n++ {
		name, c := fmt.Sprintf("%s-%d-%d", killed, id, n), l.content(8<<20+upTo(rng, 0, 16<<20))
		if err := l.killOne(rng, name, c); err != nil {
			l.trouble("%s: %s: %v", killed, name, err)
			l.add(killed, Tally{Crashed: 1})
		}
	}
}

// killOne does so once. Its error is of this machine, or of a client that has crashed.
func (l *load) killOne(rng *rand.Rand, name string, c content) error {
	file := filepath.Join(l.Root, name)
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file) }()
	_, err = io.Copy(f, c.from(0))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	begin := time.Now()
	for kills := 1 + rng.IntN(2); kills > 0; kills-- {
		cmd, out, err := l.putCommand(file, name)
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		ended := make(chan struct{})
		go l.killOnceBegun(cmd, within(rng, 0, 300*time.Millisecond), ended)
		err = cmd.Wait()
		close(ended)
		if err == nil { // before it was killed
			l.stored(killed, name, c)
			return nil
		}
		if panicked(out) {
			return fmt.Errorf("%w\n%s", err, out)
		}
		l.add(killed, Tally{GivenUp: 1})
	}
	cmd, out, err := l.putCommand(file, name, "--retries", "10")
	if err != nil {
		return err
	}
	switch err := cmd.Run(); {
	case err == nil:
		l.stored(killed, name, c)
	case panicked(out):
		return fmt.Errorf("%w\n%s", err, out)
	default:
		l.doubt(killed, name, c)
		l.failed(killed, begin, "tailfin put --resume", fmt.Errorf("%w: %s", err, out))
	}
	return nil
}

// killOnceBegun kills a `tailfin put` some time after it has noted where its upload can go
// on. Before it would begin anew, and leave a part that nobody knows.
func (l *load) killOnceBegun(cmd *exec.Cmd, after time.Duration, ended <-chan struct{}) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
		}
		// Of this client, which does one at a time. A note that is being written begins with a dot.
		if notes, _ := filepath.Glob(filepath.Join(l.Root, "tailfin", "uploads", "[0-9a-f]*.json")); len(notes) > 0 {
			break
		}
	}
	select {
	case <-ended:
	case <-time.After(after):
		_ = cmd.Process.Kill()
	}
}

func panicked(out *bytes.Buffer) bool {
	return strings.Contains(out.String(), "panic:") || strings.Contains(out.String(), "fatal error:")
}

// putCommand is `tailfin put`, which remembers in our folder what it has begun.
func (l *load) putCommand(file, name string, more ...string) (*exec.Cmd, *bytes.Buffer, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	args := append([]string{"put", file, l.url("/" + name), "--insecure", "--resume", "--connect-timeout", "20s"}, more...)
	cmd := exec.CommandContext(l.ctx, exe, args...)
	cmd.Env = append(withoutRole(os.Environ()), "XDG_STATE_HOME="+l.Root)
	out := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return cmd, out, nil
}

// withoutRole is an environment in which this program is itself.
func withoutRole(env []string) (list []string) {
	for _, v := range env {
		if !strings.HasPrefix(v, "TAILFIN_BENCH_CHILD=") {
			list = append(list, v)
		}
	}
	return list
}
