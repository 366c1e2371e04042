package tailfin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// TestExpectContinueTable has what net/http does about "Expect: 100-continue": the
// 100 goes out at the first read, if no answer has begun, and a client whose body
// nobody has read is told not to send it.
func TestExpectContinueTable(t *testing.T) {
	read := func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %v", b, err)
	}
	for _, tc := range []struct {
		name    string
		header  []string
		handler http.HandlerFunc
		body    string // that the client sends once it may; "" if it never may
		sees    string // the statuses, then the body
	}{
		{"read", []string{"expect", "100-continue"}, read, "now", "100 200 now <nil>"},
		{"in other letters", []string{"expect", "100-Continue"}, read, "now", "100 200 now <nil>"},
		{"answered without reading", []string{"expect", "100-continue"}, func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "no room", http.StatusInsufficientStorage)
		}, "", "507 no room\n"},
		{"answered, then read", []string{"expect", "100-continue"}, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusAccepted)
			_ = http.NewResponseController(w).Flush()
			read(w, r)
		}, "late", "202 late <nil>"},
		{"after another interim response", []string{"expect", "100-continue"}, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			read(w, r)
		}, "now", "103 100 200 now <nil>"},
		{"not asked for", nil, read, "now", "200 now <nil>"},
		{"something else is expected", []string{"expect", "wonders"}, read, "now", "200 now <nil>"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newRawClient(t, startServer(t, &Server{Handler: tc.handler}))
			str := c.start(t, post("/", tc.header...))
			src := newMessageSource(newRecvStream(str, new(atomic.Int64), nil), h3frame.NewResponseDecoder(h3frame.ResponseStream, "POST", h3frame.Limits{}))
			var sees strings.Builder
			sent := false
			sendBody := func() {
				if !sent && tc.body != "" {
					sent = true
					_, _ = str.Write(h3frame.AppendData(nil, []byte(tc.body)))
					_ = str.Close()
				}
			}
			if !strings.Contains(tc.sees, "100 ") && !strings.HasPrefix(tc.sees, "202") {
				sendBody() // nothing to wait for
			}
			for {
				ev, err := src.next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if ev.Response != nil {
					fmt.Fprintf(&sees, "%d ", ev.Response.Status)
					if status := ev.Response.Status; status == http.StatusContinue || status == http.StatusAccepted {
						sendBody()
					}
				}
				sees.Write(ev.Body)
			}
			want(t, sees.String(), tc.sees)
			if tc.body == "" {
				// The answer was whole, and then came STOP_SENDING.
				<-str.Context().Done()
				wantReset(t, context.Cause(str.Context()), h3frame.ErrCodeNoError)
			}
		})
	}
}

// TestExpectContinueEmptyBody has no body to send, and so nothing to continue.
func TestExpectContinueEmptyBody(t *testing.T) {
	addr := startServer(t, &Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.ReadAll(r.Body) })})
	c := newRawClient(t, addr)
	head, _, err := answer(t, c.send(t, post("/", "expect", "100-continue", "content-length", "0")))
	want(t, err, nil)
	want(t, head.Status, 200)
}
