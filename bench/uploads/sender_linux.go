package uploads

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// senderConfig is what a sender process is told.
type senderConfig struct {
	Addr     string        `json:"addr"`
	Method   string        `json:"method"`
	Status   int           `json:"status"` // that answers must have
	Answer   int           `json:"answer"` // bytes that they must have; anyAnswer for whatever
	Conns    int           `json:"conns"`
	InFlight int           `json:"in_flight"`
	Size     int           `json:"size"`
	Time     time.Duration `json:"time"`
}

// anyAnswer is a senderConfig's Answer for answers whose bytes are passed over.
const anyAnswer = -1

// A wrongAnswer is an answer that a receiver must not give.
type wrongAnswer struct{ what string }

func (e *wrongAnswer) Error() string { return e.what }

// warmRequests is how many requests each connection makes before it is measured.
const warmRequests = 32

// A sender makes the requests of one receiver's runs.
type sender struct {
	senderConfig
	body  []byte // of each request
	want  []byte // of each answer
	conns []*http3.Transport
	runs  int // also that to warm up

	mu        sync.Mutex
	latencies *hdrhistogram.Histogram // in microseconds
}

// The latencies that are told apart: up to a minute, to three digits.
const (
	maxLatency    = int64(time.Minute / time.Microsecond)
	latencyDigits = 3
)

func newLatencies() *hdrhistogram.Histogram { return hdrhistogram.New(1, maxLatency, latencyDigits) }

// newSender makes a sender, whose connections are made with their first requests.
func newSender(c senderConfig) *sender {
	s := &sender{senderConfig: c, body: make([]byte, c.Size), latencies: newLatencies()}
	if c.Answer != anyAnswer {
		s.want = answerText(c.Answer)
	}
	for i := range s.body {
		s.body[i] = byte(i)
	}
	for range c.Conns {
		s.conns = append(s.conns, &http3.Transport{DisableCompression: true,
			QUICConfig: &quic.Config{KeepAlivePeriod: keepAlive},
			TLSClientConfig: &tls.Config{
				InsecureSkipVerify: true, //nolint:gosec // a path within this machine, and a certificate made for this run
				MinVersion:         tls.VersionTLS13,
			}})
	}
	return s
}

func (s *sender) close() {
	for _, tr := range s.conns {
		_ = tr.Close()
	}
}

// send makes connections and warms them up, reports that on out, and then makes a run
// and reports it for each line that comes on in, until the line of the end.
func send(ctx context.Context, c senderConfig, in io.Reader, out io.Writer) error {
	s := newSender(c)
	defer s.close()
	enc := json.NewEncoder(out)
	report := func(r sentReport, err error) error {
		if err != nil {
			r.Error, r.Wrong = err.Error(), errors.As(err, new(*wrongAnswer))
		}
		return enc.Encode(r)
	}
	if err := report(s.warm(ctx)); err != nil {
		return err
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		if lines.Text() != askRun {
			return report(sentReport{}, nil)
		}
		if err := report(s.run(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// askRun asks a sender for a run.
const askRun = "run"

// keepAlive keeps connections while other receivers have their turns.
const keepAlive = 10 * time.Second

// warm makes the connections and uses each.
func (s *sender) warm(ctx context.Context) (report sentReport, err error) {
	if err := s.dial(ctx); err != nil {
		return report, err
	}
	report.Requests, err = s.workers(ctx, func(begun int) bool { return begun < max(1, warmRequests/s.InFlight) })
	return report, err
}

// run makes the requests of one run.
func (s *sender) run(ctx context.Context) (report sentReport, err error) {
	s.latencies.Reset()
	if err := s.get(ctx, s.conns[0], pathBegin, &report.Used); err != nil {
		return report, err
	}
	began := time.Now()
	report.Requests, err = s.workers(ctx, func(int) bool { return time.Since(began) < s.Time })
	report.Seconds = time.Since(began).Seconds()
	if err != nil {
		return report, err
	}
	report.P50, report.P99 = s.latencies.ValueAtQuantile(50), s.latencies.ValueAtQuantile(99)
	return report, s.get(ctx, s.conns[0], pathEnd, &report.Used)
}

// maxDials is how many connections are made at a time: quic-go (v0.65.0) refuses those
// beyond 32 that its server has not accepted yet.
const maxDials = 16

// dial makes the connections, by a request on each.
func (s *sender) dial(ctx context.Context) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var all sync.WaitGroup
	turn := make(chan struct{}, maxDials)
	for _, tr := range s.conns {
		turn <- struct{}{}
		all.Go(func() {
			defer func() { <-turn }()
			if err := s.get(ctx, tr, pathHello, new(usage)); err != nil {
				fail(err)
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// workers makes requests on every connection, InFlight at a time, as long as more says so of
// the number that a worker has begun. It returns the number of all. The first that
// fails ends the others.
func (s *sender) workers(ctx context.Context, more func(begun int) bool) (int, error) {
	s.runs++
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var all sync.WaitGroup
	counts := make([]int, s.Conns*s.InFlight)
	for i := range counts {
		all.Go(func() {
			latencies, buf := newLatencies(), make([]byte, len(s.want)+1)
			for ; more(counts[i]); counts[i]++ {
				at := time.Now()
				url := fmt.Sprintf("https://%s/%d-%d-%d", s.Addr, s.runs, i, counts[i])
				if err := s.request(ctx, s.conns[i/s.InFlight], url, buf); err != nil {
					fail(err)
					return
				}
				_ = latencies.RecordValue(min(time.Since(at).Microseconds(), maxLatency))
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.latencies.Merge(latencies)
		})
	}
	all.Wait()
	sum := 0
	for _, n := range counts {
		sum += n
	}
	return sum, context.Cause(ctx)
}

// request makes a request, and checks the answer, for which buf has room and one byte
// more.
func (s *sender) request(ctx context.Context, tr *http3.Transport, url string, buf []byte) error {
	var body io.Reader // nil is none, which is not the same as one that is empty
	if s.Method != http.MethodGet {
		body = bytes.NewReader(s.body)
	}
	req, err := http.NewRequestWithContext(ctx, s.Method, url, body)
	if err != nil {
		return err
	}
	return roundTrip(tr, req, s.Status, func(body io.Reader) error {
		if s.Answer == anyAnswer {
			_, err := io.Copy(io.Discard, body)
			return err
		}
		n, err := io.ReadFull(body, buf)
		switch {
		case err == nil || !bytes.Equal(buf[:n], s.want):
			return &wrongAnswer{fmt.Sprintf("%s %s was answered with %q, not %q", req.Method, url, buf[:n], s.want)}
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF): // the end that it must have
			return nil
		}
		return err
	})
}

func (s *sender) get(ctx context.Context, tr *http3.Transport, path string, used *usage) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+s.Addr+path, nil)
	if err != nil {
		return err
	}
	return roundTrip(tr, req, http.StatusOK, func(body io.Reader) error { return json.NewDecoder(body).Decode(used) })
}

// roundTrip has the answer read, which must have the status.
func roundTrip(tr *http3.Transport, req *http.Request, status int, read func(io.Reader) error) error {
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != status {
		return fmt.Errorf("%s %s: %s", req.Method, req.URL, resp.Status)
	}
	return read(resp.Body)
}
