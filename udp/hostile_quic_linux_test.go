//go:build (amd64 || arm64) && !nouring

package udp

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/bench/hostile/inject"
)

// An uploading is a QUIC client of the child.
type uploading struct {
	*hostileParent
	res   hostile.Result
	tr    *quic.Transport
	body  []byte
	whole int
}

// dial makes a connection to the child's server.
func (u *uploading) dial(to net.Addr) (*quic.Conn, error) {
	ctx, cancel := context.WithTimeout(u.t.Context(), hostilePatience)
	defer cancel()
	return u.tr.Dial(ctx, to, testTLS(u.t), &quic.Config{MaxIdleTimeout: hostilePatience, HandshakeIdleTimeout: hostilePatience})
}

// upload sends the body, calls middle after half of it, and wants the sum of it back.
func (u *uploading) upload(conn *quic.Conn, middle func()) error {
	ctx, cancel := context.WithTimeout(u.t.Context(), hostilePatience)
	defer cancel()
	s, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(conn.Context(), func() { s.CancelRead(0) })
	defer stop()
	half := len(u.body) / 2
	if _, err := s.Write(u.body[:half]); err != nil {
		return err
	}
	middle()
	if _, err := s.Write(u.body[half:]); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	got, err := io.ReadAll(s)
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(u.body); !bytes.Equal(got, sum[:]) {
		u.res.Corrupt++
		return fmt.Errorf("the sum is % x", got)
	}
	u.whole++
	return nil
}

// TestHostileQUICCalls has quic-go read and write where calls fail in the middle of an
// upload: it goes on, or ends with an error that says why, and never spins.
func TestHostileQUICCalls(t *testing.T) {
	t.Parallel()
	needUring(t, Uring)
	p := startHostile(t, unix.SYS_RECVMMSG, unix.SYS_IO_URING_ENTER, unix.SYS_SENDMSG)
	body := make([]byte, hostile.Size(2<<20, 16<<20))
	_, _ = rand.Read(body)
	nth := func(n int) func(inject.Call) bool {
		seen := 0
		return func(inject.Call) bool { seen++; return seen%n == 0 }
	}
	// What becomes of the server's socket, and of the connection.
	const (
		goesOn  = "goes on"
		connEnd = "the connection ends"
		ends    = "the transport ends"
	)
	for _, tc := range []struct {
		backend Backend
		call    int
		how     string
		errnos  []unix.Errno
		match   func(inject.Call) bool
		every   bool
		want    string
	}{
		{Mmsg, unix.SYS_RECVMMSG, "once", []unix.Errno{unix.ENOMEM, unix.EINTR, unix.ECONNREFUSED}, nil, false, goesOn},
		{Mmsg, unix.SYS_RECVMMSG, "each third time", []unix.Errno{unix.ENOMEM, unix.EINTR, unix.ECONNREFUSED}, nth(3), true, goesOn},
		{Mmsg, unix.SYS_RECVMMSG, "from then on", []unix.Errno{unix.EBADF, unix.EPERM, unix.ECONNREFUSED, unix.EINTR, unix.ENOMEM}, nil, true, ends},
		{Auto, unix.SYS_IO_URING_ENTER, "from then on", []unix.Errno{unix.EBADF, unix.EPERM, unix.EINTR, unix.ENOMEM, unix.EBUSY}, nil, true, goesOn},
		{Uring, unix.SYS_IO_URING_ENTER, "each third time", []unix.Errno{unix.EAGAIN, unix.ENOMEM, unix.EBUSY}, nth(3), true, goesOn},
		{Uring, unix.SYS_IO_URING_ENTER, "from then on", []unix.Errno{unix.EBADF, unix.EPERM, unix.EINTR}, nil, true, ends},
		{Auto, unix.SYS_SENDMSG, "each fifth time", []unix.Errno{unix.ENOBUFS, unix.ENOMEM, unix.EINTR, unix.EAGAIN}, nth(5), true, goesOn},
		{Auto, unix.SYS_SENDMSG, "once", []unix.Errno{unix.EPERM, unix.ENETUNREACH, unix.EINVAL}, nil, false, connEnd},
		{Auto, unix.SYS_SENDMSG, "from then on", []unix.Errno{unix.EPERM, unix.EBADF, unix.ENOBUFS, unix.EINTR}, nil, true, connEnd},
	} {
		name := callNames[tc.call][0]
		p.run(fmt.Sprintf("%s/%s/%s", name, tc.backend, tc.how), func(t *testing.T) {
			u := &uploading{hostileParent: p, body: body, res: hostile.Result{
				Kind: "kernel", Fault: fmt.Sprintf("quic-go over %s: %s fails %s: %s", tc.backend, name, tc.how, errnoNames(tc.errnos)),
			}}
			socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			defer socket.Close()
			u.tr = &quic.Transport{Conn: socket}
			defer u.tr.Close()
			most, why := 0, ""
			for _, errno := range tc.errnos {
				to := p.listen(tc.backend)
				p.do(order{Do: "serve"})
				conn, err := u.dial(to)
				if err != nil {
					t.Fatal(err)
				}
				f := &inject.Fault{Call: tc.call, Match: tc.match, Errno: errno, Every: tc.every}
				met := make(chan struct{})
				uploaded := make(chan error, 1)
				go func() { uploaded <- u.upload(conn, func() { p.Set(f); close(met) }) }()
				switch tc.want {
				case goesOn:
					if err := <-uploaded; err != nil {
						u.res.Lost++
						t.Errorf("%s: %v", unix.ErrnoName(errno), err)
					}
				case connEnd:
					<-met
					// Nothing can be sent, so that the client hears nothing of its end.
					u.hear(t, f)
					p.Set()
					_ = conn.CloseWithError(0, "")
					<-uploaded
					if conn, err = u.dial(to); err == nil {
						err = u.upload(conn, func() {})
					}
					if err != nil {
						u.res.Lost++
						t.Errorf("after %s: %v", unix.ErrnoName(errno), err)
					}
				case ends:
					<-met
					end := p.do(order{Do: "ended"})
					if len(end.Errs) != 1 || !end.Errs[0].names(tc.call, errno) || !end.Errs[0].advises() {
						t.Errorf("%s: quic-go has ended with %+v", unix.ErrnoName(errno), end.Errs)
					} else {
						why = end.Errs[0].Text
					}
					p.Set()
					_ = conn.CloseWithError(0, "")
					<-uploaded
				}
				p.Set()
				if f.Injected() == 0 {
					t.Errorf("%s: no call failed", unix.ErrnoName(errno))
				}
				u.res.Tries += f.Injected()
				most = max(most, f.Injected())
				_ = conn.CloseWithError(0, "")
				state := p.do(order{Do: "stop"})
				if tc.backend == Auto && tc.call == unix.SYS_IO_URING_ENTER && !momentary(errno) {
					if why = state.Reason; !strings.HasPrefix(why, "io_uring failed: ") {
						t.Errorf("%s: %s", unix.ErrnoName(errno), why)
					}
				}
				p.close(&u.res)
			}
			if bound := maxShort + maxFailures; tc.every && tc.match == nil && most > bound {
				u.res.Crashed++
				t.Errorf("%d calls failed, more than %d: it spins", most, bound)
			}
			u.res.Bound = fmt.Sprintf("%s; %d uploads of %d MB whole; %d calls failed at most", tc.want, u.whole, len(body)>>20, most)
			if why != "" {
				u.res.Bound += "; " + why
			}
			u.res.Report(t)
		})
	}
}

// hear waits until the fault was met.
func (u *uploading) hear(t *testing.T, f *inject.Fault) {
	t.Helper()
	for deadline := time.Now().Add(hostilePatience); f.Injected() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(errors.New("no call failed"))
		}
	}
}
