package tailfin

import (
	"context"
	"errors"
	"net/http"
	"testing"

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
