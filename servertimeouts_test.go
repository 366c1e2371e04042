package tailfin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/h3frame"
)

// brief is a timeout under test: long against loopback, short against a test.
const brief = 150 * time.Millisecond

// start writes bytes on a new request stream that stays open.
func (c *rawClient) start(t *testing.T, parts ...[]byte) *quic.Stream {
	t.Helper()
	str, err := c.conn.OpenStreamSync(timeout(t))
	if err != nil {
		t.Fatal(err)
	}
	_ = str.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := str.Write(bytes.Join(parts, nil)); err != nil {
		t.Fatal(err)
	}
	return str
}

func wantReset(t *testing.T, err error, code h3frame.ErrorCode) {
	t.Helper()
	var reset *quic.StreamError
	if !errors.As(err, &reset) || !reset.Remote || h3frame.ErrorCode(reset.ErrorCode) != code {
		t.Errorf("%v, want a reset with %s", err, code)
	}
}

func TestReadHeaderTimeout(t *testing.T) {
	var log peer.Output
	server := &Server{ReadHeaderTimeout: brief, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })}
	c := newRawClient(t, startServer(t, server))
	began := time.Now()
	slow := c.start(t, get("/")[:5])
	late := c.start(t, post("/")) // whose body may take longer
	_, err := io.ReadAll(slow)
	wantReset(t, err, h3frame.ErrCodeRequestRejected)
	if took := time.Since(began); took < brief {
		t.Errorf("reset after %v", took)
	}
	_, _ = late.Write(h3frame.AppendData(nil, []byte("late")))
	_ = late.Close()
	_, body, err := answer(t, late)
	want(t, body, "late")
	want(t, err, nil)
	want(t, server.Stats().HeadTimeouts, 1)
	want(t, strings.Contains(log.String(), "header section too slow"), true)
}

func TestBodyIdleTimeout(t *testing.T) {
	got := make(chan error, 2)
	first := make(chan struct{})
	server := &Server{BodyIdleTimeout: 3 * brief, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, 5)
		_, _ = io.ReadFull(r.Body, body)
		close(first)
		rest, err := io.ReadAll(r.Body)
		body = append(body, rest...)
		got <- err
		_, err = r.Body.Read(make([]byte, 1)) // it does not go on
		got <- err
		http.Error(w, string(body), http.StatusRequestTimeout)
	})}
	c := newRawClient(t, startServer(t, server))
	str := c.start(t, post("/"), h3frame.AppendData(nil, []byte("one, ")))
	<-first // and the time begins again
	_, _ = str.Write(h3frame.AppendData(nil, []byte("two")))
	for range 2 {
		if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read of a body that stopped: %v", err)
		}
	}
	head, body, err := answer(t, str)
	want(t, err, nil)
	want(t, head.Status, http.StatusRequestTimeout)
	want(t, body, "one, two\n")
	<-str.Context().Done()
	wantReset(t, context.Cause(str.Context()), h3frame.ErrCodeRequestCancelled)
	want(t, server.Stats().BodyTimeouts, 1)
}

// TestBodyIdleTimeoutAndDeadline has a handler's own deadline, which comes first and
// ends nothing.
func TestBodyIdleTimeoutAndDeadline(t *testing.T) {
	got := make(chan error, 1)
	server := &Server{BodyIdleTimeout: time.Hour, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctl := http.NewResponseController(w)
		_ = ctl.SetReadDeadline(past)
		_, err := r.Body.Read(make([]byte, 1))
		got <- err
		_ = ctl.SetReadDeadline(time.Time{})
		_, _ = io.Copy(w, r.Body)
	})}
	c := newRawClient(t, startServer(t, server))
	str := c.start(t, post("/"))
	if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read past the deadline: %v", err)
	}
	_, _ = str.Write(h3frame.AppendData(nil, []byte("on")))
	_ = str.Close()
	_, body, err := answer(t, str)
	want(t, body, "on")
	want(t, err, nil)
	want(t, server.Stats().BodyTimeouts, 0)
}

func TestRequestTimeout(t *testing.T) {
	over := make(chan [2]error, 1)
	server := &Server{RequestTimeout: brief, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/quick" {
			return
		}
		<-r.Context().Done()
		over <- [2]error{r.Context().Err(), context.Cause(r.Context())}
	})}
	c := newRawClient(t, startServer(t, server))
	quick := c.send(t, get("/quick"))
	slow := c.send(t, get("/slow"))
	_, err := io.ReadAll(slow)
	wantReset(t, err, h3frame.ErrCodeRequestCancelled)
	ctxErr := <-over
	want(t, ctxErr[0], context.DeadlineExceeded)
	want(t, errors.Is(ctxErr[1], context.DeadlineExceeded), true)
	_, _, err = answer(t, quick)
	want(t, err, nil)
	want(t, server.Stats().RequestTimeouts, 1)
	want(t, server.Stats().RapidResets, 0)
}

func TestIdleTimeout(t *testing.T) {
	release := make(chan struct{})
	server := &Server{IdleTimeout: brief, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release })}
	c := newRawClient(t, startServer(t, server))
	control, _ := c.control(t)
	str := c.send(t, get("/"))
	select {
	case <-c.conn.Context().Done():
		t.Fatal("closed with a request at work")
	case <-time.After(2 * brief):
	}
	close(release)
	_, _, err := answer(t, str)
	want(t, err, nil)
	wantGoAways(t, control, h3frame.MaxRequestStreamID, 4)
	wantConnClosed(t, c, h3frame.ErrCodeNoError)
	want(t, server.Stats().IdleTimeouts, 1)
}

// TestIdleTimeoutWithoutRequest has a client that never asks for anything.
func TestIdleTimeoutWithoutRequest(t *testing.T) {
	c := newRawClient(t, startServer(t, &Server{IdleTimeout: brief}))
	wantConnClosed(t, c, h3frame.ErrCodeNoError)
}

// TestQUICIdleTimeout is passed through.
func TestQUICIdleTimeout(t *testing.T) {
	server := &Server{QUICConfig: &quic.Config{MaxIdleTimeout: time.Second}}
	c := newRawClient(t, startServer(t, server))
	<-c.conn.Context().Done()
	var idle *quic.IdleTimeoutError
	if err := context.Cause(c.conn.Context()); !errors.As(err, &idle) {
		t.Errorf("the connection ended with %v", err)
	}
}

func TestDeadlines(t *testing.T) {
	early, late := past, past.Add(time.Hour)
	src := newFakeStream(0)
	var d deadlines
	want(t, d.idled(), false)
	d.setIdle(src, late)
	want(t, src.deadline, late)
	want(t, d.idled(), true)
	_ = d.set(src, early)
	want(t, src.deadline, early)
	want(t, d.idled(), false) // the reader's came first
	want(t, d.passed(), true)
	d.setIdle(src, time.Time{})
	_ = d.set(src, time.Time{})
	want(t, src.deadline, time.Time{})
	want(t, d.passed(), false)
}
