package tailfin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// TestRequestContext asks the context of a request in each way that there is for
// whether the client has given up, before anyone else has asked it anything.
func TestRequestContext(t *testing.T) {
	isGone := func(err error) bool {
		var reset *StreamReset
		return errors.As(err, &reset)
	}
	for name, ask := range map[string]func(t *testing.T, ctx context.Context){
		"Done": func(_ *testing.T, ctx context.Context) { <-ctx.Done() },
		"Err":  func(t *testing.T, ctx context.Context) { eventually(t, "Err", func() bool { return ctx.Err() != nil }) },
		"Cause": func(t *testing.T, ctx context.Context) {
			eventually(t, "a cause", func() bool { return isGone(context.Cause(ctx)) })
		},
		"child": func(t *testing.T, ctx context.Context) {
			child, cancel := context.WithCancel(context.WithValue(ctx, http.ServerContextKey, 1))
			defer cancel()
			<-child.Done()
			if err := context.Cause(child); !isGone(err) {
				t.Errorf("cause of a child: %v", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			began, result := make(chan struct{}), make(chan error, 1)
			addr := startServer(t, &Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				ctx := r.Context()
				close(began)
				ask(t, ctx)
				if !errors.Is(ctx.Err(), context.Canceled) {
					t.Errorf("Err is %v", ctx.Err())
				}
				select {
				case <-ctx.Done():
				default:
					t.Error("Done is not closed")
				}
				result <- context.Cause(ctx)
			})})
			c := newRawClient(t, addr)
			str := c.send(t, get("/"))
			<-began
			str.CancelRead(quic.StreamErrorCode(h3frame.ErrCodeRequestCancelled))
			if err := <-result; !isGone(err) {
				t.Errorf("cause %v", err)
			}
		})
	}
}

// TestRequestContextIsOver looks at contexts after their handlers have returned, one
// that was used and one that was not.
func TestRequestContextIsOver(t *testing.T) {
	contexts := make(chan context.Context, 2)
	addr := startServer(t, &Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/used" {
			select {
			case <-r.Context().Done():
				t.Error("over before its handler has returned")
			default:
			}
		}
		if err := r.Context().Err(); err != nil {
			t.Errorf("over before its handler has returned: %v", err)
		}
		contexts <- r.Context()
	})})
	hc := client(t, &Transport{})
	for _, path := range []string{"/used", "/unused"} {
		resp, err := hc.Get("https://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		ctx := <-contexts
		<-ctx.Done()
		if ctx.Err() != context.Canceled || context.Cause(ctx) != context.Canceled {
			t.Errorf("%s: %v, cause %v", path, ctx.Err(), context.Cause(ctx))
		}
		if ctx.Value(http.LocalAddrContextKey) == nil {
			t.Errorf("%s: the values of the connection are gone", path)
		}
	}
}

// TestRequestContextOfOneWhoLeft first asks after the client has closed the connection:
// a request that is here as a whole keeps its context until its handler returns, read or
// not, and one that is not loses it.
func TestRequestContextOfOneWhoLeft(t *testing.T) {
	const size = 40_000 // more than is read with the head
	for name, tc := range map[string]struct{ read, whole bool }{
		"whole, read":       {true, true},
		"whole, not read":   {false, true},
		"cut off, read":     {true, false},
		"cut off, not read": {false, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Server{}
			began, left, result := make(chan struct{}), make(chan struct{}), make(chan error, 1)
			after := make(chan struct{})
			s.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if tc.read {
					_, _ = io.ReadFull(r.Body, make([]byte, size))
					if tc.whole {
						_, _ = io.Copy(io.Discard, r.Body)
					}
				}
				close(began)
				<-left
				ctx := r.Context()
				if _, has := ctx.Deadline(); has {
					t.Error("it has a deadline")
				}
				child, cancel := context.WithTimeout(ctx, time.Hour)
				defer cancel()
				context.AfterFunc(child, func() { close(after) })
				if (ctx.Err() == nil) != (child.Err() == nil) {
					t.Errorf("Err is %v, a child's %v", ctx.Err(), child.Err())
				}
				select {
				case <-ctx.Done():
					if ctx.Err() == nil {
						t.Error("done without an error")
					}
				default:
				}
				result <- context.Cause(child)
			})
			c := newRawClient(t, startServer(t, s))
			request := append(get("/", "content-length", strconv.Itoa(size)), h3frame.AppendData(nil, make([]byte, size))...)
			if tc.whole {
				c.send(t, request)
			} else {
				str := c.start(t, request)
				defer func() { _ = str.Close() }()
			}
			<-began
			if !tc.read { // let all of it arrive
				conn := s.openConns(nil)[0]
				eventually(t, "all of the request", func() bool {
					unread := conn.h3.barrier.unread()
					return slices.ContainsFunc(unread, func(u unreadStream) bool { return u.contiguous > size && u.ended == tc.whole })
				})
			}
			_ = c.conn.CloseWithError(0x100, "")
			eventually(t, "the end of the connection", func() bool { return len(s.openConns(nil)) == 0 })
			close(left)
			cause := <-result
			if tc.whole != (cause == nil) {
				t.Errorf("cause %v", cause)
			}
			<-after
		})
	}
}

// TestRequestContextIsPrinted prints a context while another goroutine begins to watch
// it, as a log line does that has it among its values.
func TestRequestContextIsPrinted(t *testing.T) {
	texts := make(chan string, 1)
	addr := startServer(t, &Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var watching sync.WaitGroup
		watching.Go(func() { _ = r.Context().Done() })
		text := fmt.Sprintf("%+v", r.Context())
		watching.Wait()
		texts <- text
	})})
	resp, err := client(t, &Transport{}).Get("https://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if text := <-texts; text != "tailfin.requestContext" {
		t.Errorf("it is printed as %q", text)
	}
}

// TestHandlersThatHoldOn has goroutines of handlers that use all of a request after its
// handler has returned, while other requests are served: what they have must stay
// theirs.
func TestHandlersThatHoldOn(t *testing.T) {
	const requests, atOnce = 400, 16
	var left sync.WaitGroup
	left.Add(requests)
	addr := startServer(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		number := r.Header.Get("Number")
		buf := make([]byte, 16)
		_, _ = r.Body.Read(buf[:1]) // some is left for later
		go func() {
			defer left.Done()
			ctx := r.Context()
			child, cancel := context.WithCancel(ctx)
			defer cancel()
			_, _ = io.Copy(io.Discard, r.Body)
			<-ctx.Done()
			<-child.Done()
			if context.Cause(child) == nil || ctx.Value(http.LocalAddrContextKey) == nil {
				t.Errorf("request %s: cause %v", number, context.Cause(child))
			}
			if n, err := r.Body.Read(buf); n != 0 || err == nil {
				t.Errorf("request %s: %d bytes of a body after its handler, %v", number, n, err)
			}
			rc := http.NewResponseController(w)
			_ = rc.SetReadDeadline(time.Now())
			_ = rc.SetWriteDeadline(time.Time{})
			for range 3 {
				w.WriteHeader(http.StatusTeapot)
				if n, err := io.WriteString(w, strings.Repeat("late", 10_000)); n != 0 || err == nil {
					t.Errorf("request %s: %d bytes written after its handler, %v", number, n, err)
				}
				if err := rc.Flush(); err == nil {
					t.Errorf("request %s: flushed after its handler", number)
				}
			}
			if r.Header.Get("Number") != number || r.URL.Path != "/"+number || r.Trailer == nil {
				t.Errorf("request %s has become %v", number, r.Header)
			}
		}()
		w.Header().Set("Number", number)
		_, _ = io.WriteString(w, strings.Repeat(number, 100))
	})})
	hc := client(t, &Transport{})
	var next atomic.Int64
	var clients sync.WaitGroup
	for range atOnce {
		clients.Go(func() {
			for i := next.Add(1); i <= requests; i = next.Add(1) {
				number := strconv.FormatInt(i, 10)
				req, _ := http.NewRequest(http.MethodPost, "https://"+addr+"/"+number, strings.NewReader(strings.Repeat("b", int(i)*100)))
				req.Header.Set("Number", number)
				resp, err := hc.Do(req)
				if err != nil {
					t.Error(err)
					left.Done()
					continue
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || string(body) != strings.Repeat(number, 100) || resp.Header.Get("Number") != number || resp.StatusCode != http.StatusOK {
					t.Errorf("request %s: %s, header %v, body %.20q, %v", number, resp.Status, resp.Header, body, err)
				}
			}
		})
	}
	clients.Wait()
	left.Wait()
}
