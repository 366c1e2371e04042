package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/client"
)

// An interruptedPut is a `tailfin put` of a long file to a server, which has got some
// of it.
type interruptedPut struct {
	server    *daemon
	args      []string
	env       []string
	file, sum string
}

func beginPut(t *testing.T) *interruptedPut {
	t.Helper()
	p := &interruptedPut{server: serve(t), file: filepath.Join(t.TempDir(), "report"), env: []string{"XDG_STATE_HOME=" + t.TempDir()}}
	writeLongFile(t, p.file)
	p.sum = fileSum(t, p.file)
	p.args = []string{"put", p.file, "https://" + p.server.addr + "/", "--insecure", "--json", "--idle-timeout", "2s"}
	return p
}

// start begins the upload, and returns when some of it is on the server's disk.
func (p *interruptedPut) start(t *testing.T, args ...string) (wait func() (client.Uploaded, string), interrupt func()) {
	t.Helper()
	cmd := program(t, append(p.args, args...)...)
	cmd.Env = append(cmd.Env, p.env...)
	out, errs := &peer.Output{}, &peer.Output{}
	cmd.Stdout, cmd.Stderr = out, errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); folderSize(p.server.dir) < 2<<20; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nothing arrives\n%s", errs)
		}
	}
	wait = func() (client.Uploaded, string) {
		_ = cmd.Wait()
		var res client.Uploaded
		if err := json.Unmarshal([]byte(out.String()), &res); err != nil {
			t.Fatalf("%v: %s%s", err, out, errs)
		}
		return res, errs.String()
	}
	return wait, func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
	}
}

func (p *interruptedPut) wantStored(t *testing.T) {
	t.Helper()
	if got := fileSum(t, filepath.Join(p.server.dir, "report")); got != p.sum {
		t.Fatalf("stored with %s, want %s", got, p.sum)
	}
}

// TestPutGoesOnAfterCtrlC has the second run send only what the server lacks.
func TestPutGoesOnAfterCtrlC(t *testing.T) {
	p := beginPut(t)
	wait, interrupt := p.start(t)
	interrupt()
	first, notes := wait()
	if first.Error == "" || !strings.Contains(notes, "the same command with --resume goes on there") {
		t.Fatalf("%+v\n%s", first, notes)
	}
	wait, _ = p.start(t, "--resume")
	second, notes := wait()
	if second.Error != "" || second.Resumed == 0 || second.Status != 201 || second.SHA256 != p.sum {
		t.Fatalf("%+v\n%s\n%s", second, notes, p.server.log)
	}
	p.wantStored(t)
}

// TestPutGoesOnAfterKill kills the server, and starts another one on what the first
// one has left. With retries one run survives that.
func TestPutGoesOnAfterKill(t *testing.T) {
	for _, tc := range []struct {
		name    string
		retries []string
	}{{"one run", []string{"--retries", "20", "--retry-wait", "50ms"}}, {"two runs", nil}} {
		t.Run(tc.name, func(t *testing.T) {
			p := beginPut(t)
			wait, _ := p.start(t, tc.retries...)
			if err := p.server.cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			<-p.server.done
			next := serve(t, "--listen", p.server.addr, "--sink", "dir:"+p.server.dir)
			res, notes := wait()
			if tc.retries == nil {
				if res.Error == "" {
					t.Fatalf("the kill did not show: %+v", res)
				}
				wait, _ = p.start(t, "--resume")
				res, notes = wait()
			}
			if res.Error != "" || res.SHA256 != p.sum || strings.Contains(notes, "from its start") {
				t.Fatalf("%+v\n%s\n%s", res, notes, next.log)
			}
			if log := next.log.String(); !strings.Contains(log, "PATCH") {
				t.Fatalf("it was not resumed:\n%s", log)
			}
			p.wantStored(t)
		})
	}
}
