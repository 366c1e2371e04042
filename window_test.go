package tailfin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

// TestUnreadRequests has as many uploads as a connection may carry, whose handlers
// read one after the other: those that wait must leave flow-control credit to the
// one whose turn it is.
func TestUnreadRequests(t *testing.T) {
	const size = 128 << 10 // more than a stream may hold before it is read
	for _, uploads := range []int{2, 100, 300} {
		t.Run(fmt.Sprint(uploads), func(t *testing.T) {
			var turn sync.Mutex
			var arrived sync.WaitGroup
			arrived.Add(uploads)
			addr := startServer(t, &Server{MaxRequestsPerConn: uploads, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				arrived.Done()
				arrived.Wait()
				turn.Lock()
				defer turn.Unlock()
				n, err := io.Copy(io.Discard, r.Body)
				if n != size || err != nil {
					t.Errorf("%d bytes, %v", n, err)
				}
			})})
			c := client(t, newTransport(t, &Transport{}))
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			body := make([]byte, size)
			var wg sync.WaitGroup
			for range uploads {
				wg.Go(func() {
					req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+addr, bytes.NewReader(body))
					if err != nil {
						t.Error(err)
						return
					}
					resp, err := c.Do(req)
					if err != nil {
						t.Error(err)
						return
					}
					_ = resp.Body.Close()
				})
			}
			wg.Wait()
		})
	}
}

// TestServerWindows has what becomes of a configuration.
func TestServerWindows(t *testing.T) {
	const kib, mib = 1 << 10, 1 << 20
	for _, tc := range []struct {
		name                 string
		conf                 quic.Config
		stream, conn, maxCon uint64 // InitialStream-, InitialConnection- and MaxConnectionReceiveWindow
	}{
		{"default", quic.Config{}, 117_964, 15 * mib, 15 * mib},
		{"few requests", quic.Config{MaxIncomingStreams: 8}, 512 * kib, 15 * mib, 15 * mib},
		{"many requests", quic.Config{MaxIncomingStreams: 768}, 64 * kib, 64 * mib, 64 * mib},
		{"any number of requests", quic.Config{MaxIncomingStreams: maxStreams}, 64 * kib, 128 * mib, 128 * mib},
		{"a larger connection", quic.Config{MaxConnectionReceiveWindow: 30 * mib}, 235_929, 30 * mib, 30 * mib},
		{"a small connection", quic.Config{MaxConnectionReceiveWindow: 1 * mib}, 7864, 1 * mib, 1 * mib},
		{"a window of the caller's", quic.Config{InitialStreamReceiveWindow: 1 * mib}, 1 * mib, 0, 0},
		{"the other", quic.Config{InitialConnectionReceiveWindow: 1 * mib}, 0, 1 * mib, 0},
	} {
		conf := tc.conf
		fitWindows(&conf)
		got := [3]uint64{conf.InitialStreamReceiveWindow, conf.InitialConnectionReceiveWindow, conf.MaxConnectionReceiveWindow}
		if want := [3]uint64{tc.stream, tc.conn, tc.maxCon}; got != want {
			t.Errorf("%s: %d, want %d", tc.name, got, want)
		}
	}
}
