package tailfin

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"

	"github.com/tailfin-quic/tailfin/bench/peer"
)

func TestHoldCloses(t *testing.T) {
	const grace = 10 * time.Millisecond
	closing := qlog.Frame{Frame: &qlog.ConnectionCloseFrame{IsApplicationError: true, ErrorCode: 0x100}}
	stream := func(n int64, fin bool) qlog.Frame {
		return qlog.Frame{Frame: &qlog.StreamFrame{StreamID: 4, Length: n, Fin: fin}}
	}
	for _, tc := range []struct {
		name  string
		steps func(record func(frames ...qlog.Frame))
		held  bool
		bytes uint64
	}{
		{"data and close in one packet", func(r func(...qlog.Frame)) { r(stream(100, true), closing) }, true, 101},
		{"data just before", func(r func(...qlog.Frame)) { r(stream(100, false)); time.Sleep(grace / 2); r(closing) }, true, 100},
		{"data long before", func(r func(...qlog.Frame)) { r(stream(100, false)); time.Sleep(3 * grace); r(closing) }, false, 0},
		{"only recent data counts", func(r func(...qlog.Frame)) {
			r(stream(1000, false))
			time.Sleep(3 * grace)
			r(stream(10, false))
			time.Sleep(grace)
			r(stream(1, false), closing)
		}, true, 11},
		{"no data", func(r func(...qlog.Frame)) { r(closing) }, false, 0},
		{"FIN alone", func(r func(...qlog.Frame)) { r(stream(0, true), closing) }, true, 1},
		{"data behind the close", func(r func(...qlog.Frame)) { r(closing, stream(100, false)) }, false, 0},
		{"two closes", func(r func(...qlog.Frame)) { r(stream(7, false), closing); r(stream(9, false), closing) }, true, 7},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conf, counter := HoldCloses(nil, grace)
				rec := conf.Tracer(context.Background(), true, quic.ConnectionID{}).AddProducer()
				var last time.Duration // of the record call that took longest
				tc.steps(func(frames ...qlog.Frame) {
					start := time.Now()
					rec.RecordEvent(qlog.PacketReceived{Frames: frames})
					last = max(last, time.Since(start))
				})
				want := HoldStats{Closes: 1, Bytes: tc.bytes}
				var wantHeld time.Duration
				if tc.held {
					want.Held, wantHeld = 1, grace
				}
				if got := counter.Stats(); got != want || last != wantHeld {
					t.Errorf("%+v, held for %v; want %+v, %v", got, last, want, wantHeld)
				}
			})
		})
	}
}

// countingTrace is an embedder's tracer.
type countingTrace struct{ producers, events, closed atomic.Int32 }

func (c *countingTrace) AddProducer() qlogwriter.Recorder {
	c.producers.Add(1)
	return countingRecorder{c}
}

type countingRecorder struct{ c *countingTrace }

func (r countingRecorder) RecordEvent(qlogwriter.Event) { r.c.events.Add(1) }
func (r countingRecorder) Close() error {
	r.c.closed.Add(1)
	return nil
}

// TestHoldClosesForStockHTTP3 has quic-go's own http3 client ask a foreign server
// that closes 10 µs after each answer, one connection a request. The hold is long,
// so that nothing depends on how fast the reader is; the embedder's tracer goes on.
func TestHoldClosesForStockHTTP3(t *testing.T) {
	const requests, size = 20, 9000
	server, err := peer.ListenXNet("127.0.0.1:0", cert(t), peer.XNetOptions{CloseAfterResponse: true, Delay: 10 * time.Microsecond})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	var own countingTrace
	conf, counter := HoldCloses(&quic.Config{
		Tracer: func(context.Context, bool, quic.ConnectionID) qlogwriter.Trace { return &own },
	}, time.Second)
	var wg sync.WaitGroup
	var whole atomic.Int32
	for range requests {
		wg.Go(func() {
			tr := &http3.Transport{TLSClientConfig: clientTLS(t), QUICConfig: conf}
			defer func() { _ = tr.Close() }()
			resp, err := (&http.Client{Transport: tr}).Get("https://" + server.Addr() + "/bytes/9000")
			if err != nil {
				t.Log(err)
				return
			}
			defer func() { _ = resp.Body.Close() }()
			if b, err := io.ReadAll(resp.Body); err == nil && bytes.Equal(b, peer.Pattern(size)) {
				whole.Add(1)
			} else {
				t.Logf("%d bytes, %v", len(b), err)
			}
		})
	}
	wg.Wait()
	if n := whole.Load(); n != requests {
		t.Errorf("%d of %d answers whole", n, requests)
	}
	if st := counter.Stats(); st.Closes == 0 || st.Held == 0 || st.Bytes == 0 {
		t.Errorf("%+v", st)
	}
	if own.events.Load() == 0 || own.producers.Load() < requests || own.closed.Load() < requests {
		t.Errorf("the embedder's tracer saw %d events of %d producers, %d closed", own.events.Load(), own.producers.Load(), own.closed.Load())
	}
}
