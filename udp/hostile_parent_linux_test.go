//go:build (amd64 || arm64) && !nouring

package udp

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/bench/hostile/inject"
)

// hostilePatience bounds what the child may take on a loaded machine.
const hostilePatience = time.Minute

// A hostileParent starts a child, has its system calls fail, and sends to it.
type hostileParent struct {
	t       *testing.T
	cmd     *exec.Cmd
	orders  *json.Encoder
	in      *os.File
	out     *os.File
	reports *json.Decoder
	*inject.Supervisor

	log    *bytes.Buffer
	rest   report // what the child has while it does nothing
	poller string // descriptor of the epoll instance of its runtime
	peer   *net.UDPConn
	next   uint32 // number of the datagram that is sent next
}

// startHostile starts a child of which these system calls may fail.
func startHostile(t *testing.T, calls ...int) *hostileParent {
	t.Helper()
	ordersR, ordersW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	reportsR, reportsW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &hostileParent{
		t: t, in: ordersW, out: reportsR, orders: json.NewEncoder(ordersW), reports: json.NewDecoder(reportsR), log: new(bytes.Buffer),
		cmd: exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0], "-test.run=^TestHostileChild$"),
	}
	p.cmd.Env = append(os.Environ(), asHostileChild+"=1", inject.Env(calls...))
	p.cmd.ExtraFiles = []*os.File{ordersR, reportsW}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = ordersR.Close(), reportsW.Close()
	p.Supervisor, err = inject.Attach(p.cmd.Process.Pid)
	if err != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		t.Skipf("cannot supervise system calls here: %v: %s", err, p.log)
	}
	if p.peer, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	_ = p.peer.SetReadBuffer(1 << 20)
	t.Cleanup(p.end)
	// What is made once for the process is made now.
	p.do(order{Do: "listen"})
	p.do(order{Do: "read", Wait: time.Millisecond})
	p.rest = p.do(order{Do: "close"})
	p.poller = p.firstPoller()
	return p
}

// run is a test of the child's.
func (p *hostileParent) run(name string, f func(t *testing.T)) {
	outer := p.t
	outer.Run(name, func(t *testing.T) {
		p.t = t
		defer func() { p.t = outer }()
		f(t)
	})
}

// firstPoller is the epoll instance that the runtime has made before any other.
func (p *hostileParent) firstPoller() string {
	first := -1
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.cmd.Process.Pid))
	for _, f := range files {
		if to, _ := os.Readlink(f); to == "anon_inode:[eventpoll]" {
			if n, err := strconv.Atoi(filepath.Base(f)); err == nil && (first < 0 || n < first) {
				first = n
			}
		}
	}
	return strconv.Itoa(first)
}

// do has the child carry an order out. A child that does not come to its end has crashed.
func (p *hostileParent) do(o order) report {
	p.t.Helper()
	if err := p.orders.Encode(o); err != nil {
		_ = p.cmd.Wait()
		p.t.Fatalf("the child has ended: %v: %s", err, p.log)
	}
	return p.answer(o)
}

func (p *hostileParent) answer(o order) report {
	p.t.Helper()
	var r report
	_ = p.out.SetReadDeadline(time.Now().Add(hostilePatience))
	if err := p.reports.Decode(&r); err != nil {
		_ = p.cmd.Process.Signal(unix.SIGQUIT)
		_ = p.cmd.Wait()
		p.t.Fatalf("%s: the call never returned, or the child has ended: %v: %s", o.Do, err, p.log)
	}
	return r
}

// end has the child end, with the look for goroutines of its TestMain.
func (p *hostileParent) end() {
	p.Set()
	_ = p.in.Close()
	if err := p.cmd.Wait(); err != nil && !p.t.Failed() {
		p.t.Errorf("the child: %v: %s", err, p.log)
	}
	if err := p.Close(); err != nil {
		p.t.Error(err)
	}
	_ = p.out.Close()
	_ = p.peer.Close()
}

// listen has the child open a Conn, which works.
func (p *hostileParent) listen(backend Backend) *net.UDPAddr {
	p.t.Helper()
	// With long pauses, since a reader whose calls are supervised does not get much.
	r := p.do(order{Do: "listen", Backend: backend, Moderation: MaxModeration})
	if len(r.Errs) > 0 {
		p.t.Fatalf("listen: %+v", r.Errs)
	}
	p.next = 0
	return p.addr(r)
}

// addr is where a report says that the child listens.
func (p *hostileParent) addr(r report) *net.UDPAddr {
	p.t.Helper()
	to, err := net.ResolveUDPAddr("udp", r.Addr)
	if err != nil {
		p.t.Fatal(err)
	}
	return to
}

// burst sends datagrams, which then wait in the socket of the child.
func (p *hostileParent) burst(to *net.UDPAddr, n int) {
	p.t.Helper()
	for range n {
		if _, err := p.peer.WriteToUDP(numbered(p.next), to); err != nil {
			p.t.Fatal(err)
		}
		p.next++
	}
}

// close has the child close its Conn, and counts what is left: descriptors and
// goroutines.
func (p *hostileParent) close(res *hostile.Result) report {
	p.t.Helper()
	r := p.do(order{Do: "close", Count: p.rest.Goroutines})
	left := max(0, r.FDs-p.rest.FDs) + max(0, r.Goroutines-p.rest.Goroutines)
	if left > 0 {
		p.t.Errorf("%s: %d descriptors and %d goroutines more than before", res.Fault, r.FDs-p.rest.FDs, r.Goroutines-p.rest.Goroutines)
	}
	res.Leaked += left
	return r
}

// callNames are the system calls by number, and what errors of package udp and of those
// that it uses call them.
var callNames = map[int][]string{
	unix.SYS_SOCKET:            {"socket"},
	unix.SYS_BIND:              {"bind"},
	unix.SYS_GETSOCKNAME:       {"getsockname"},
	unix.SYS_SETSOCKOPT:        {"setsockopt"},
	unix.SYS_GETSOCKOPT:        {"getsockopt"},
	unix.SYS_FCNTL:             {"fcntl", "network poller"},
	unix.SYS_EPOLL_CREATE1:     {"epoll_create1"},
	unix.SYS_EPOLL_CTL:         {"epoll_ctl"},
	unix.SYS_TIMERFD_CREATE:    {"timerfd_create"},
	unix.SYS_TIMERFD_SETTIME:   {"timerfd_settime"},
	unix.SYS_EVENTFD2:          {"eventfd"},
	unix.SYS_IO_URING_SETUP:    {"io_uring_setup", "io_uring"},
	unix.SYS_IO_URING_REGISTER: {"io_uring_register", "register buffer ring", "io_uring"},
	unix.SYS_IO_URING_ENTER:    {"io_uring_enter", "io_uring"},
	unix.SYS_MMAP:              {"mmap", "map rings", "map submissions", "io_uring is blocked"},
	unix.SYS_MUNMAP:            {"munmap"},
	unix.SYS_RECVMSG:           {"recvmsg"},
	unix.SYS_RECVMMSG:          {"recvmmsg"},
	unix.SYS_SENDMSG:           {"sendmsg"},
	unix.SYS_EPOLL_PWAIT:       {"epoll_pwait"},
	unix.SYS_SENDTO:            {"sendto"},
	unix.SYS_SENDMMSG:          {"sendmmsg"},
}

// names tells whether an error says which call failed, and by which errno.
func (f failure) names(call int, errno unix.Errno) bool {
	says := strings.Contains(f.Text, errno.Error()) || strings.Contains(f.Text, "("+unix.ErrnoName(errno)+")")
	return says && slices.ContainsFunc(callNames[call], func(name string) bool { return strings.Contains(f.Text, name) })
}

// advises tells whether an error says what to do: a last part of its own, of the
// errors of reading.
func (f failure) advises() bool { return strings.Contains(f.Text, "; ") }

// errnoNames are for a row.
func errnoNames(list []unix.Errno) string {
	var names []string
	for _, e := range list {
		name := unix.ErrnoName(e)
		if e == unix.EOPNOTSUPP { // one number has two names
			name = "EOPNOTSUPP"
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}
