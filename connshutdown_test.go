package tailfin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin/h3frame"
	"github.com/tailfin-quic/tailfin/udp"
)

// wantGoAways reads GOAWAY frames with these IDs off a control stream.
func wantGoAways(t *testing.T, control *frameSource, ids ...uint64) {
	t.Helper()
	for _, id := range ids {
		f, err := control.next()
		if err != nil {
			t.Fatal(err)
		}
		got, err := h3frame.ParseGoAway(f.Payload)
		want(t, f.Type, h3frame.FrameGoAway)
		want(t, got, id)
		want(t, err, nil)
	}
}

// TestShutdownInTwoSteps has requests before, between and after the two GOAWAYs.
func TestShutdownInTwoSteps(t *testing.T) {
	arrived, release := make(chan struct{}, 4), make(chan struct{})
	server := &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		_, _ = io.WriteString(w, r.URL.Path)
	})}
	c := newRawClient(t, startServer(t, server))
	control, _ := c.control(t)
	before := c.send(t, get("/before"))
	<-arrived
	stopped := make(chan error, 1)
	go func() { stopped <- server.Shutdown(timeout(t)) }()
	wantGoAways(t, control, h3frame.MaxRequestStreamID, 4)
	after := c.send(t, get("/after"))
	_, err := io.ReadAll(after)
	wantReset(t, err, h3frame.ErrCodeRequestRejected)
	select {
	case err := <-stopped:
		t.Fatalf("Shutdown did not wait for a request: %v", err)
	default:
	}
	close(release)
	_, body, err := answer(t, before)
	want(t, body, "/before")
	want(t, err, nil)
	wantConnClosed(t, c, h3frame.ErrCodeNoError)
	want(t, <-stopped, nil)
	want(t, server.Stats().RequestsRejected, 1)
	want(t, server.Stats().RequestsAnswered, 1)
}

// TestShutdownAnswersWhatIsOnItsWay opens a request that crosses the first GOAWAY.
func TestShutdownAnswersWhatIsOnItsWay(t *testing.T) {
	server := &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "in time") })}
	c := newRawClient(t, startServer(t, server))
	control, _ := c.control(t)
	var sc *serverConn
	for sc == nil {
		if open := server.openConns(nil); len(open) > 0 {
			sc = open[0]
		}
	}
	_ = sc.h3.sendGoAway(h3frame.MaxRequestStreamID) // the first step, for as long as it takes
	wantGoAways(t, control, h3frame.MaxRequestStreamID)
	_, body, err := answer(t, c.send(t, get("/")))
	want(t, body, "in time")
	want(t, err, nil)
	stopped := make(chan error, 1)
	go func() { stopped <- server.Shutdown(timeout(t)) }()
	wantGoAways(t, control, 4) // and never a higher one than before
	want(t, <-stopped, nil)
}

// TestShutdownWaitsForTheFirstRequest has a client connect, and ask only when it has been told
// to ask no more, by a request that it does not wait for.
func TestShutdownWaitsForTheFirstRequest(t *testing.T) {
	got := newCollect()
	server := &Server{Handler: got}
	c := newRawClient(t, startServer(t, server))
	control, _ := c.control(t)
	eventually(t, "the connection is accepted", func() bool { return len(server.openConns(nil)) > 0 })
	stopped := make(chan error, 1)
	go func() { stopped <- server.Shutdown(timeout(t)) }()
	wantGoAways(t, control, h3frame.MaxRequestStreamID)
	time.Sleep(2 * minGoAwayGrace)
	str := c.send(t, post("/report"), h3frame.AppendData(nil, []byte("all")))
	got.wait(t, 1)
	want(t, got.whole["/report"], "all")
	_, _ = io.ReadAll(str)
	wantGoAways(t, control, 4)
	want(t, <-stopped, nil)
}

// TestShutdownOutlived has a handler that goes on past Shutdown's context.
func TestShutdownOutlived(t *testing.T) {
	arrived, release, returned := make(chan struct{}), make(chan struct{}), make(chan struct{})
	server := &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-release
		_, _ = io.WriteString(w, "too late")
		if err := http.NewResponseController(w).Flush(); err == nil {
			t.Error("an answer was sent on a closed connection")
		}
		close(returned)
	})}
	c := newRawClient(t, startServer(t, server))
	c.send(t, get("/"))
	<-arrived
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	want(t, errors.Is(server.Shutdown(ctx), context.DeadlineExceeded), true)
	wantConnClosed(t, c, h3frame.ErrCodeNoError)
	close(release)
	<-returned
}

// A deafConn loses what it receives while it is deaf.
type deafConn struct {
	net.PacketConn
	deaf atomic.Bool
}

func (c *deafConn) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, addr, err := c.PacketConn.ReadFrom(p)
		if err != nil || !c.deaf.Load() {
			return n, addr, err
		}
	}
}

// TestShutdownOutlastsANetworkThatIsAway loses all packets of an answer for longer than a quiet
// connection is left open.
func TestShutdownOutlastsANetworkThatIsAway(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	server := &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-release
		_, _ = w.Write(bytes.Repeat([]byte("x"), 9000))
	})}
	addr := startServer(t, server)
	plain, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	socket := &deafConn{PacketConn: plain}
	c := dialRawOn(t, addr, socket, nil)
	stream := c.send(t, get("/"))
	<-arrived
	socket.deaf.Store(true)
	close(release)
	stopped := make(chan error, 1)
	go func() { stopped <- server.Shutdown(timeout(t)) }()
	time.Sleep(3 * shutdownLinger)
	socket.deaf.Store(false)
	_, body, err := answer(t, stream)
	want(t, len(body), 9000)
	want(t, err, nil)
	_ = c.conn.CloseWithError(0x100, "")
	want(t, <-stopped, nil)
}

// TestShutdownWaitsForHandlersOfClientsThatLeft: a client that reports and leaves
// has handed its report over, and it must not be lost in a Shutdown.
func TestShutdownWaitsForHandlersOfClientsThatLeft(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	stored := ""
	server := &Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		close(arrived)
		<-release
		mu.Lock()
		defer mu.Unlock()
		stored = string(body)
	})}
	c := newRawClient(t, startServer(t, server))
	c.send(t, post("/"), h3frame.AppendData(nil, []byte("report")))
	<-arrived
	_ = c.conn.CloseWithError(0x100, "")
	for server.Stats().ConnsOpen > 0 {
		time.Sleep(time.Millisecond) // nothing else tells that the close was met
	}
	stopped := make(chan error, 1)
	go func() { stopped <- server.Shutdown(timeout(t)) }()
	select {
	case err := <-stopped:
		t.Fatalf("Shutdown returned with a handler at work: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	want(t, <-stopped, nil)
	mu.Lock()
	defer mu.Unlock()
	want(t, stored, "report")
}

// TestServeTwoSockets serves two sockets by one server, and stops both.
func TestServeTwoSockets(t *testing.T) {
	server := &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) })}
	first, second := startServer(t, server), startServer(t, server)
	want(t, fetch(t, first), first)
	want(t, fetch(t, second), second)
	want(t, server.Shutdown(timeout(t)), nil)
	conn, err := udp.Listen("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	want(t, server.Serve(conn), ErrServerClosed)
}
