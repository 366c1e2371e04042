//go:build !nouring && (amd64 || arm64)

package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/bench/peer"
)

// A gated is a body that waits at its half until the gate is open.
type gated struct {
	body []byte
	at   int
	half *sync.WaitGroup // is told when the half is sent
	gate chan struct{}
	once sync.Once
}

func (g *gated) Read(p []byte) (int, error) {
	if g.at >= len(g.body)/2 {
		g.once.Do(g.half.Done)
		<-g.gate
	}
	if g.at == len(g.body) {
		return 0, io.EOF
	}
	end := len(g.body)
	if g.at < end/2 {
		end /= 2
	}
	n := copy(p, g.body[g.at:end])
	g.at += n
	return n, nil
}

// stopTimes are for how long a process is stopped, one after the other.
func stopTimes() []time.Duration {
	all := []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 5 * time.Second}
	return all[:hostile.Size(1, len(all))]
}

// mustStore uploads a body, which is lost unless it is stored.
func (p *deposit) mustStore(name string, body io.Reader) {
	a, err := send(p.t, p.tr, http.MethodPut, "https://"+p.d.addr+"/"+name, body)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil || a.StatusCode != http.StatusCreated {
		p.res.Lost++
		p.t.Errorf("upload %s: %v, %v", name, a.Response, err)
		return
	}
	p.stored[name] = true
}

// TestHostileServeStopped has SIGSTOP hit the daemon while uploads and downloads are at
// their half, and SIGCONT come seconds later: all come to their end, whole.
func TestHostileServeStopped(t *testing.T) {
	t.Parallel()
	const uploads, downloads, size = 6, 3, 4 << 20
	d := serveObserved(t)
	p := newDeposit(t, d.daemon, "")
	times := stopTimes()
	var longest time.Duration
	for round, stopped := range times {
		var half, all sync.WaitGroup
		gate := make(chan struct{})
		for i := range uploads {
			name := fmt.Sprintf("stopped-%d-%d", round, i)
			p.sizes[name] = size
			half.Add(1)
			body := &gated{body: crashBody(name, size), half: &half, gate: gate}
			all.Go(func() { p.mustStore(name, body) })
		}
		for range downloads {
			half.Add(1)
			all.Go(func() {
				n, sum, err := gatedGet(t, p.tr, fmt.Sprintf("https://%s/bytes/%d", d.addr, size), size/2, half.Done, gate)
				want := sha256.Sum256(peer.Pattern(size))
				p.mu.Lock()
				defer p.mu.Unlock()
				switch {
				case err != nil:
					p.res.Lost++
					t.Errorf("a download: %d bytes, %v", n, err)
				case !bytes.Equal(sum, want[:]):
					p.res.Corrupt++
					t.Errorf("a download has other bytes, %d", n)
				}
			})
		}
		half.Wait()
		d.signal(t, unix.SIGSTOP)
		began := time.Now()
		close(gate) // the other halves go to a process that does not read
		time.Sleep(stopped)
		d.signal(t, unix.SIGCONT)
		longest = max(longest, time.Since(began))
		all.Wait()
		p.res.Tries += uploads + downloads
	}
	p.check()
	p.res.Kind, p.res.Fault = "machine", fmt.Sprintf("serve is stopped (SIGSTOP) for %v in the middle of %d uploads and %d downloads", times, uploads, downloads)
	p.res.Bound = fmt.Sprintf("all of %d MB whole; the longest stop was %v; tailfin_udp_kernel_drops_total %.0f",
		size>>20, longest.Round(10*time.Millisecond), d.metric(t, "tailfin_udp_kernel_drops_total"))
	p.res.Report(t)
	d.stop(t)
}

// gatedGet fetches, and waits after some bytes until the gate is open.
func gatedGet(t *testing.T, tr http.RoundTripper, url string, first int64, reached func(), gate <-chan struct{}) (n int64, sum []byte, err error) {
	reached = sync.OnceFunc(reached)
	defer reached()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	h := sha256.New()
	n, err = io.CopyN(h, resp.Body, first)
	if err != nil {
		return n, nil, err
	}
	reached()
	<-gate
	rest, err := io.Copy(h, resp.Body)
	return n + rest, h.Sum(nil), err
}

// TestHostileClientStopped has SIGSTOP hit `tailfin put` and `tailfin get` in the middle.
func TestHostileClientStopped(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	d := serveObserved(t)
	p := newDeposit(t, d.daemon, "")
	want := sha256.Sum256(peer.Pattern(size))
	times := stopTimes()
	for round, stopped := range times {
		name := fmt.Sprintf("client-%d", round)
		p.sizes[name] = size
		body := crashBody(name, size)
		put := program(t, "put", "-", "https://"+d.addr+"/"+name, "--insecure")
		in, err := put.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		get := program(t, "get", fmt.Sprintf("https://%s/bytes/%d", d.addr, size), "--insecure")
		out, err := get.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var errs peer.Output
		put.Stderr, get.Stderr = &errs, &errs
		for _, cmd := range []*exec.Cmd{put, get} {
			cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
		}
		// Both are in the middle: put has half of what it is to send, get has somewhere to
		// write to for half.
		if _, err := in.Write(body[:size/2]); err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		if _, err := io.CopyN(h, out, size/2); err != nil {
			t.Fatalf("get: %v: %s", err, &errs)
		}
		for _, cmd := range []*exec.Cmd{put, get} {
			if err := cmd.Process.Signal(unix.SIGSTOP); err != nil {
				t.Fatal(err)
			}
		}
		written := make(chan error, 1)
		go func() {
			_, err := in.Write(body[size/2:])
			_ = in.Close()
			written <- err
		}()
		time.Sleep(stopped)
		for _, cmd := range []*exec.Cmd{put, get} {
			if err := cmd.Process.Signal(unix.SIGCONT); err != nil {
				t.Fatal(err)
			}
		}
		_, copyErr := io.Copy(h, out)
		if err := get.Wait(); err != nil || copyErr != nil {
			p.res.Lost++
			t.Errorf("get: %v, %v: %s", err, copyErr, &errs)
		} else if !bytes.Equal(h.Sum(nil), want[:]) {
			p.res.Corrupt++
			t.Error("get has other bytes")
		}
		if err := <-written; err != nil {
			t.Error(err)
		}
		if err := put.Wait(); err != nil {
			p.res.Lost++
			t.Errorf("put: %v: %s", err, &errs)
		}
		p.stored[name] = true // it says so by its exit code
		p.res.Tries += 2
	}
	p.check()
	p.res.Kind, p.res.Fault = "client", fmt.Sprintf("put and get are stopped (SIGSTOP) for %v in the middle", times)
	p.res.Bound = fmt.Sprintf("all of %d MB whole; tailfin_server_timeouts_total %.0f", size>>20, d.metric(t, "tailfin_server_timeouts_total"))
	p.res.Report(t)
	d.stop(t)
}

// TestHostileDescriptors has a daemon of which others take all descriptors that it may
// have. Uploads that need one are refused, those at work go on, and there is room again
// when the descriptors are given back.
func TestHostileDescriptors(t *testing.T) {
	t.Parallel()
	const limit = 64
	d := serveObservedAs(t, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d", envFiles, limit)) }, "--shards", "1")
	http.DefaultClient.CloseIdleConnections()
	rest := d.settledFiles(t)
	p := newDeposit(t, d.daemon, "")
	p.res.Kind = "machine"
	// Some uploads are at work, with a descriptor each.
	const atWork = 8
	var half, all sync.WaitGroup
	gate := make(chan struct{})
	for i := range atWork {
		name := fmt.Sprintf("at-work-%d", i)
		p.sizes[name] = 200_000
		half.Add(1)
		body := &gated{body: crashBody(name, 200_000), half: &half, gate: gate}
		all.Go(func() { p.mustStore(name, body) })
	}
	half.Wait()
	eventually(t, "each has its file", func() bool { return d.files() >= rest+atWork })
	// The daemon closes connections that ask nothing, and there are others at once.
	var conns []net.Conn
	enough, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for {
			select {
			case <-enough:
				return
			case <-time.After(time.Millisecond):
			}
			if d.files() < limit {
				if c, err := net.Dial("tcp", d.admin); err == nil {
					conns = append(conns, c)
				}
			}
		}
	}()
	eventually(t, "all descriptors are taken", func() bool { return d.files() == limit })
	least, refused := hostile.Size(20, 100), 0
	for rounds := 0; refused < least && rounds < 10*least; rounds++ {
		_, n := p.round()
		refused += n
	}
	if refused == 0 || p.statuses[503] != refused {
		t.Errorf("%d uploads were refused, with %v", refused, p.statuses)
	}
	conn := mustDial(t, d.addr) // takes none
	_ = conn.CloseWithError(0, "")
	close(gate)
	all.Wait()
	close(enough)
	<-over
	for _, c := range conns {
		_ = c.Close()
	}
	eventually(t, "there is room again", func() bool {
		stored, _ := p.round()
		return stored == len(depositSizes)
	})
	p.check()
	_ = p.tr.Close()
	http.DefaultClient.CloseIdleConnections()
	p.res.Leaked = p.unfinished() + d.leaked(rest)
	p.res.Tries = p.n
	p.res.Fault = fmt.Sprintf("no descriptor is left of %d (RLIMIT_NOFILE), with uploads at work and new ones", limit)
	p.res.Bound = fmt.Sprintf("%d descriptors; 201 %d and whole, 503 %d (tailfin_sink_stores_total{result=\"unavailable\"} %.0f); a new QUIC connection needs none",
		limit, len(p.stored), p.statuses[503], d.metric(t, "tailfin_sink_stores_total", "result=unavailable"))
	p.res.Report(t)
	d.stop(t)
}

// serveObservedAs is serveObserved of a command that is changed before.
func serveObservedAs(t *testing.T, prepare func(*exec.Cmd), args ...string) *observed {
	t.Helper()
	return observe(t, serveAs(t, prepare, append([]string{"--admin", "127.0.0.1:0"}, args...)...))
}

// A memoryGroup is a control group of its own for a process, which bounds its memory,
// with the files that it has written lately.
type memoryGroup struct {
	path                                string
	limit, usage, peak, limitSwap, kill string // files
}

// newMemoryGroup makes a group in whichever version of control groups there is.
func newMemoryGroup(t *testing.T) *memoryGroup {
	t.Helper()
	name := fmt.Sprintf("tailfin-test-%d", os.Getpid())
	var why []string
	for _, g := range []*memoryGroup{
		{"/sys/fs/cgroup/" + name, "memory.max", "memory.current", "memory.peak", "memory.swap.max", "memory.events"},
		{"/sys/fs/cgroup/memory/" + name, "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.max_usage_in_bytes", "", "memory.oom_control"},
	} {
		if err := os.Mkdir(g.path, 0o755); err != nil {
			why = append(why, err.Error())
			continue
		}
		t.Cleanup(func() { _ = os.Remove(g.path) })
		if _, err := os.Stat(filepath.Join(g.path, g.limit)); err != nil {
			why = append(why, err.Error())
			continue
		}
		if g.limitSwap != "" {
			_ = os.WriteFile(filepath.Join(g.path, g.limitSwap), []byte("0"), 0o644)
		}
		return g
	}
	t.Skipf("needs root and a memory controller of control groups that may be used: %s", strings.Join(why, "; "))
	return nil
}

func (g *memoryGroup) set(t *testing.T, file, value string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(g.path, file), []byte(value), 0o644); err != nil {
		t.Fatal(err)
	}
}

// number reads a file with a number, or the number after a word.
func (g *memoryGroup) number(t *testing.T, file, after string) int64 {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(g.path, file))
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	fields := strings.Fields(string(text))
	for i := range fields {
		if after == "" || i > 0 && fields[i-1] == after {
			_, _ = fmt.Sscan(fields[i], &n)
			return n
		}
	}
	return 0
}

// TestHostileMemory has a daemon take uploads at once that together are more than the
// memory that is left to it.
func TestHostileMemory(t *testing.T) {
	t.Parallel()
	group := newMemoryGroup(t)
	d := serveObserved(t)
	group.set(t, "cgroup.procs", fmt.Sprint(d.cmd.Process.Pid))
	p := newDeposit(t, d.daemon, "")
	p.res.Kind = "machine"
	uploads := hostile.Size(12, 64)
	store := func(round string, size int) {
		var all sync.WaitGroup
		for i := range uploads {
			name := fmt.Sprintf("memory-%s-%d", round, i)
			p.sizes[name] = size
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "https://"+d.addr+"/"+name, bytes.NewReader(crashBody(name, size)))
			if err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				resp, err := p.tr.RoundTrip(req) // for as long as it takes
				p.mu.Lock()
				defer p.mu.Unlock()
				if err != nil {
					p.res.Lost++
					t.Errorf("an upload: %v", err)
					return
				}
				_ = resp.Body.Close()
				p.statuses[resp.StatusCode]++
				p.stored[name] = resp.StatusCode == http.StatusCreated
			})
		}
		all.Wait()
	}
	// What so many at once take of themselves is had first. What the daemon had before stays
	// charged to where it was.
	const small = 256 << 10
	store("first", small)
	left := hostile.Size(8, 32) << 20
	if underRace {
		left += 8 << 20
	}
	limit := group.number(t, group.usage, "") + int64(left)
	group.set(t, group.limit, fmt.Sprint(limit))
	size := left * 3 / 2 / uploads
	store("then", size)
	p.check()
	if group.number(t, group.kill, "oom_kill") != 0 || d.cmd.Process.Signal(syscall.Signal(0)) != nil {
		p.res.Crashed++
		t.Fatalf("it was killed, at %d bytes:\n%s", limit, d.log)
	}
	peak := group.number(t, group.peak, "")
	if peak > limit+1<<20 { // the kernel counts in batches
		t.Errorf("%d bytes of memory of %d", peak, limit)
	}
	p.res.Tries = uploads
	p.res.Fault = fmt.Sprintf("%d uploads of %d kB at once, with %d MB of memory left to what it has taken for as many (control group)", uploads, size>>10, left>>20)
	p.res.Bound = fmt.Sprintf("%d of %d stored and whole; at most %d MB of memory of %d; heap %.0f MB (go_memstats_heap_inuse_bytes)",
		p.statuses[201], 2*uploads, peak>>20, limit>>20, d.metric(t, "go_memstats_heap_inuse_bytes")/(1<<20))
	p.res.Report(t)
	d.stop(t)
}
