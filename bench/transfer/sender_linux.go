package transfer

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/tailfin-quic/tailfin/bench/proc"
	"github.com/tailfin-quic/tailfin/bench/servers"
)

// senderConfig is what a process that uploads is told.
type senderConfig struct {
	Addr  string `json:"addr"`
	Via   string `json:"via"` // QUICGo or Tailfin
	Kind  string `json:"kind"`
	Bytes int64  `json:"bytes"` // of each body
	Flows int    `json:"flows"`

	// For Latency.
	Connection string        `json:"connection"`
	BulkGbit   float64       `json:"bulk_gbit"`
	Rate       int           `json:"rate"`
	Time       time.Duration `json:"time"`
}

const (
	// warmBytes is what all connections send before they are measured.
	warmBytes = 4 << 20
	// warmLeast is what each of them sends at least: the windows of congestion and of
	// flow control have begun to open then.
	warmLeast = 512 << 10
	// maxDials is how many connections are made at a time: quic-go (v0.65.0) refuses
	// those beyond 32 that its server has not accepted yet.
	maxDials = 16
)

// warmEach is what each of so many connections sends first: not more than is measured.
func warmEach(flows int, measured int64) int64 {
	return min(max(warmLeast, warmBytes/int64(flows)), measured)
}

// A sender has a connection for each body, and one for the small requests.
type sender struct {
	senderConfig
	bulk  []http.RoundTripper
	small http.RoundTripper
}

// clientQUIC and clientTLS are the same for all clients.
func clientQUIC() *quic.Config { return &quic.Config{HandshakeIdleTimeout: servers.HandshakeTimeout} }

func clientTLS() *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // a link of this machine, and a certificate made for this run
		MinVersion:         tls.VersionTLS13,
	}
}

func newClient() *http3.Transport {
	return &http3.Transport{DisableCompression: true, QUICConfig: clientQUIC(), TLSClientConfig: clientTLS()}
}

// runSender is the role of a process that uploads.
func runSender(ctx context.Context, c senderConfig, in io.Reader, out io.Writer) error {
	s := &sender{senderConfig: c}
	dial := func() http.RoundTripper { return newClient() }
	if c.Via == Tailfin {
		dial = func() http.RoundTripper { return newGetter(servers.DrainOff) }
	}
	for range c.Flows {
		s.bulk = append(s.bulk, dial())
	}
	s.small = s.bulk[0]
	if c.Connection == OtherConnection {
		s.small = dial()
	}
	return answer(in, out, func(line string) (any, bool) {
		switch line {
		case askWarm:
			return sentReport{Error: text(s.warm(ctx))}, true
		case askRun:
			return measured(func(r *sentReport) error {
				if c.Kind == Latency {
					return s.latency(ctx, r)
				}
				r.Bytes, r.Bodies = c.Bytes*int64(c.Flows), c.Flows
				return s.put(ctx, len(s.bulk), pathBody, c.Bytes)
			}), true
		}
		return sentReport{}, false
	})
}

// answer has f answer each line on in, as long as it says that there are more.
func answer(in io.Reader, out io.Writer, f func(line string) (reply any, more bool)) error {
	enc := json.NewEncoder(out)
	more := true
	for lines := bufio.NewScanner(in); more && lines.Scan(); {
		var reply any
		reply, more = f(lines.Text())
		if err := enc.Encode(reply); err != nil {
			return err
		}
	}
	return nil
}

// text is what an error says, if it is one.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// measured measures what f takes.
func measured(f func(*sentReport) error) (report sentReport) {
	began, used := time.Now(), proc.Used()
	report.Error = text(f(&report))
	report.Seconds, report.CPU = time.Since(began).Seconds(), proc.Used().CPU-used.CPU
	return report
}

// warm makes the connections and uses each.
func (s *sender) warm(ctx context.Context) error {
	if s.Kind == Latency {
		if err := s.get(ctx); err != nil {
			return err
		}
		return s.put(ctx, maxDials, pathWarm, warmBytes)
	}
	return s.put(ctx, maxDials, pathWarm, warmEach(s.Flows, s.Bytes))
}

// put has every connection send a body, so many of them at a time.
func (s *sender) put(ctx context.Context, atATime int, path string, bytes int64) error {
	return each(len(s.bulk), atATime, func(i int) error {
		return put(ctx, s.bulk[i], "https://"+s.Addr+path, io.LimitReader(zeros{}, bytes), bytes)
	})
}

// each calls f for 0 to n-1, so many at a time, and returns the first error.
func each(n, atATime int, f func(i int) error) error {
	var all sync.WaitGroup
	errs := make([]error, n)
	turn := make(chan struct{}, atATime)
	for i := range n {
		turn <- struct{}{}
		all.Go(func() {
			defer func() { <-turn }()
			errs[i] = f(i)
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// put sends a body, whose length is -1 if it is not known.
func put(ctx context.Context, tr http.RoundTripper, url string, body io.Reader, length int64) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, body)
	if err != nil {
		return err
	}
	req.ContentLength = length
	_, err = roundTrip(tr, req)
	return err
}

// roundTrip makes a request and returns the length of its answer.
func roundTrip(tr http.RoundTripper, req *http.Request) (int64, error) {
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= http.StatusMultipleChoices {
		return 0, fmt.Errorf("%s %s: %s", req.Method, req.URL, resp.Status)
	}
	n, err := discard(resp.Body)
	if err == io.EOF { //nolint:errorlint // what a Reader returns at its end, as it is
		err = nil
	}
	return n, err
}
