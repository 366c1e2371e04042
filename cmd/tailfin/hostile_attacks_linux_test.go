package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/h3frame"
)

var (
	residentPeak = regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`)
	residentNow  = regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB$`)
)

// resident is the memory of the daemon in kB: the most that it had, or what it has now.
func (d *daemon) resident(t *testing.T, which *regexp.Regexp) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	m := which.FindSubmatch(text)
	if m == nil {
		t.Fatalf("no %v in:\n%s", which, text)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// besiege attacks a daemon beside clients that upload to it and download from it, and
// reports what came of it. Connections, handshakes and goroutines must fall to what they
// were before; attack returns how often it tried, and what bounded it.
func (d *observed) besiege(t *testing.T, row hostile.Result, attack func() (tries int, bound string)) {
	t.Helper()
	goroutines, rss := d.warm(t), d.resident(t, residentNow)
	kept, fresh := startPatientLoad(t, d.addr, 2, false), startPatientLoad(t, d.addr, 1, true)
	kept.wait(t, 10)
	row.Tries, row.Bound = attack()
	kept.wait(t, 10)
	fresh.wait(t, 1)
	kept.end()
	fresh.end()
	for _, l := range []*load{kept, fresh} {
		row.Lost += len(l.errs)
		for _, err := range l.errs[:min(3, len(l.errs))] {
			t.Logf("an honest request: %v", err)
		}
		for name, want := range l.stored {
			got, err := sumOfFile(d.dir + "/" + name)
			switch {
			case err != nil:
				row.Lost++
			case got != want:
				row.Corrupt++
			}
		}
	}
	row.Leaked = d.left(t, goroutines) + d.unfinished(t)
	row.Crashed = int(d.metric(t, "tailfin_server_handler_panics_total"))
	row.Bound += fmt.Sprintf("; resident %d MB before, %d MB at most; %d requests beside it whole",
		rss>>10, d.resident(t, residentPeak)>>10, kept.calls.Load()+fresh.calls.Load())
	d.stop(t)
	row.Report(t)
}

// warm has a client come and leave, for what a first one makes and is kept, and returns
// how many goroutines there are then.
func (d *observed) warm(t *testing.T) (goroutines float64) {
	t.Helper()
	l := startPatientLoad(t, d.addr, 2, false)
	l.wait(t, 4)
	l.end()
	d.waitMetric(t, 0, "tailfin_server_connections_open")
	return d.metric(t, "go_goroutines")
}

// unfinished counts the files of uploads that were not brought to an end.
func (d *daemon) unfinished(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir(filepath.Join(d.dir, ".incoming"))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// left waits until all clients have left, and counts what stays of them.
func (d *observed) left(t *testing.T, goroutines float64) int {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		left := int(d.metric(t, "tailfin_server_connections_open") + d.metric(t, "tailfin_server_handshakes_active") +
			max(0, d.metric(t, "go_goroutines")-goroutines))
		if left == 0 || time.Now().After(deadline) {
			return left
		}
	}
}

// TestHostileInitialFlood begins handshakes from forged addresses, faster than they may
// begin: above the rate Retry takes over, and beyond half of --max-handshakes too.
func TestHostileInitialFlood(t *testing.T) {
	t.Parallel()
	m, err := peer.NewInitials(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		args []string
		wait time.Duration // after each 64 datagrams
	}{
		{"above --handshake-rate", []string{"--handshake-rate=20"}, 0},
		{"slowly, until --max-handshakes", []string{"--handshake-rate=-1", "--max-handshakes", "400"}, 10 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d := serveObserved(t, tc.args...)
			d.besiege(t, hostile.Result{Kind: "client", Fault: "Initial packets from forged addresses, " + tc.name}, func() (int, string) {
				spoofer, err := peer.NewSpoofer(d.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer spoofer.Close()
				n, most := hostile.Size(10_000, 500_000), 0.0
				var seen, others, back int
				answered := make(chan struct{})
				go func() {
					defer close(answered)
					seen, others, back = spoofer.Answers(2 * time.Second)
				}()
				batches := 0
				if err := spoofer.Send(n, func(i int) ([]byte, net.IP) { return m.Datagram(uint64(i)), peer.Source(i) }, func() {
					if batches++; batches%20 == 0 {
						most = max(most, d.metric(t, "tailfin_server_handshakes_active"))
					}
					time.Sleep(tc.wait)
				}); err != nil {
					t.Fatal(err)
				}
				retries := d.metric(t, "tailfin_limits_retries_total") + d.metric(t, "tailfin_server_retries_total")
				if retries == 0 {
					t.Error("nobody had to prove an address")
				}
				<-answered
				sent := n * len(m.Datagram(0))
				if back > 3*sent { // RFC 9000 §8.1
					t.Errorf("%d bytes were answered by %d", sent, back)
				}
				return n, fmt.Sprintf("%.0f handshakes under way at most (tailfin_server_handshakes_active), %.0f Initial packets answered by a Retry (tailfin_limits_retries_total, tailfin_server_retries_total); %d Retry and %d other datagrams came to the forged addresses, %.2f bytes for each of the flood (3)", most, retries, seen, others, float64(back)/float64(sent))
			})
		})
	}
}

// TestHostileConnectionFlood has one address ask for more connections than it may have.
func TestHostileConnectionFlood(t *testing.T) {
	t.Parallel()
	const limit = 30
	d := serveObserved(t, "--max-conns-per-addr", fmt.Sprint(limit))
	d.besiege(t, hostile.Result{Kind: "client", Fault: "connections of one address beyond --max-conns-per-addr"}, func() (int, string) {
		to, err := net.ResolveUDPAddr("udp", d.addr)
		if err != nil {
			t.Fatal(err)
		}
		socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 7)})
		if err != nil {
			t.Fatal(err)
		}
		tr := &quic.Transport{Conn: socket}
		defer func() { _ = tr.Close(); _ = socket.Close() }()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		n, refused := hostile.Size(100, 5000), 0
		var open []*quic.Conn
		for range n {
			conn, err := tr.Dial(ctx, to, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h3"}}, &quic.Config{HandshakeIdleTimeout: patience})
			var code *quic.TransportError
			switch {
			case err == nil:
				open = append(open, conn)
			case errors.As(err, &code) && code.ErrorCode == quic.ConnectionRefused:
				refused++
			default:
				t.Errorf("neither open nor refused: %v", err)
			}
		}
		most := d.metric(t, "tailfin_server_connections_open")
		if len(open) < limit || refused == 0 || most > limit+3+limit {
			t.Errorf("%d are open and %d refused of %d", len(open), refused, n)
		}
		for _, conn := range open {
			_ = conn.CloseWithError(quic.ApplicationErrorCode(h3frame.ErrCodeNoError), "")
		}
		return n, fmt.Sprintf(`%d open (%d), the others refused before their handshake; tailfin_server_connections_refused_total{limit="address"} %.0f`, len(open), limit, d.metric(t, "tailfin_server_connections_refused_total", "limit=address"))
	})
}
