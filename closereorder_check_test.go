package tailfin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"go.uber.org/goleak"

	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/h3frame"
)

// A gotMessage is what the application got of a message.
type gotMessage struct {
	calls  int // times that it was given the message: a handler called, a response or a stream returned
	body   []byte
	err    error // nil is a proper end
	unread bool  // it did not care
	hung   bool  // it is still waiting
}

// A finding is what is wrong with what was delivered.
type finding struct {
	lost, corrupt int
	why           string
}

func lostFor(format string, args ...any) *finding {
	return &finding{lost: 1, why: fmt.Sprintf(format, args...)}
}

func corruptFor(format string, args ...any) *finding {
	return &finding{corrupt: 1, why: fmt.Sprintf(format, args...)}
}

// judgeHTTP holds what an HTTP application got against what has come. isClient tells a
// response, for which the request's error counts where there is no head.
func (m *plannedMessage) judgeHTTP(content []byte, c *cameIn, end *plannedFrame, got gotMessage, isClient bool) *finding {
	if c.reset != nil {
		return m.judgeReset(content, c, got, isClient)
	}
	n := c.prefix()
	if n < m.head {
		switch {
		case got.calls > 0:
			return corruptFor("delivered after %d bytes, its head has %d", n, m.head)
		case isClient:
			return judgeClose(got.err, end, PhaseHeaders, 0)
		}
		return nil
	}
	have := m.content(n)
	switch {
	case got.calls == 0:
		return lostFor("never delivered, %d bytes of content have come: %v", have, got.err)
	case got.calls > 1:
		return corruptFor("delivered %d times", got.calls)
	case got.unread:
		return nil
	}
	if f := judgeBytes(got.body, content[:have]); f != nil {
		return f
	}
	var frameErr *FrameError
	switch {
	case c.whole() && m.cut:
		if !errors.As(got.err, &frameErr) || frameErr.Code != h3frame.ErrCodeFrame {
			return corruptFor("a FIN within a frame ends with %v", got.err)
		}
		return nil
	case c.whole(), m.met(n):
		if got.err != nil {
			return lostFor("the end, after %d bytes of content: %v", have, got.err)
		}
		return nil
	case got.err == nil:
		return corruptFor("%d bytes of content pass for the whole", have)
	}
	return judgeCut(got.err, end, have, m.want)
}

// judgeCut holds the error of a body that the close has cut short against it. have is
// what there was of the content, want the Content-Length or -1.
func judgeCut(err error, end *plannedFrame, have, want int) *finding {
	var truncated *Truncated
	isTruncated := errors.As(err, &truncated)
	if should := have < want || end.graceful(); isTruncated != should {
		return corruptFor("truncated %t with %d of %d bytes: %v", isTruncated, have, want, err)
	}
	if isTruncated && (truncated.Got != int64(have) || truncated.Want != int64(want)) {
		return corruptFor("%d of %d bytes are said to be %d of %d", have, want, truncated.Got, truncated.Want)
	}
	return judgeClose(err, end, PhaseBody, have)
}

// judgeReset is judgeHTTP for a stream that was reset. What was not read by then may
// be gone, and a message that was read to its end by then is none the worse for it.
func (m *plannedMessage) judgeReset(content []byte, c *cameIn, got gotMessage, isClient bool) *finding {
	have := m.content(c.atReset)
	switch {
	case got.calls > 1:
		return corruptFor("delivered %d times", got.calls)
	case got.calls == 1 && c.atReset < m.head:
		return corruptFor("delivered after %d bytes, its head has %d", c.atReset, m.head)
	case got.unread, got.calls == 0 && !isClient:
		return nil
	case len(got.body) > have || !bytes.HasPrefix(content, got.body):
		return corruptFor("%d bytes are not a beginning of the %d there were at the reset", len(got.body), have)
	case got.err == nil && c.wholeAtReset && len(got.body) == m.size:
		return nil
	}
	var reset *StreamReset
	if errors.As(got.err, &reset) && reset.Remote && reset.Code == c.reset.code {
		// A request that was rejected may be sent again, whatever became of the connection.
		safe := got.calls == 0 && h3frame.ErrorCode(reset.Code) == h3frame.ErrCodeRequestRejected
		if p, _ := ProgressOf(got.err); p.RetrySafe != safe {
			return corruptFor("a reset with %#x says retry safe %t: %v", reset.Code, p.RetrySafe, got.err)
		}
		return nil
	}
	var frameErr *FrameError
	if m.cut && c.wholeAtReset && errors.As(got.err, &frameErr) {
		return nil
	}
	return corruptFor("a reset with %#x ends with %v", c.reset.code, got.err)
}

// judgeStream holds what was read of a bare stream against what has come.
func (m *plannedMessage) judgeStream(c *cameIn, end *plannedFrame, got gotMessage) *finding {
	n := c.prefix()
	if c.reset != nil {
		n = c.atReset
	}
	var (
		reset  *quic.StreamError
		closed *quic.ApplicationError
		byQUIC *quic.TransportError
	)
	switch {
	case got.calls == 0 && c.reset == nil && (n > 0 || c.whole()):
		return lostFor("never accepted, %d bytes have come", n)
	case got.calls == 0, got.unread:
		return nil
	case c.reset != nil && len(got.body) <= n && bytes.HasPrefix(m.data, got.body):
		if c.wholeAtReset && errors.Is(got.err, io.EOF) && len(got.body) == n {
			return nil
		}
		if !errors.As(got.err, &reset) || uint64(reset.ErrorCode) != c.reset.code {
			return corruptFor("a reset with %#x ends with %v", c.reset.code, got.err)
		}
		return nil
	}
	if f := judgeBytes(got.body, m.data[:n]); f != nil {
		return f
	}
	switch {
	case c.whole() != errors.Is(got.err, io.EOF):
		if c.whole() {
			return lostFor("the FIN, after %d bytes: %v", n, got.err)
		}
		return corruptFor("%d bytes pass for the whole", n)
	case c.whole():
	case end.quic && (!errors.As(got.err, &byQUIC) || uint64(byQUIC.ErrorCode) != end.code || !byQUIC.Remote),
		!end.quic && (!errors.As(got.err, &closed) || uint64(closed.ErrorCode) != end.code || !closed.Remote):
		return corruptFor("%s shows as %v", end, got.err)
	}
	return nil
}

// judgeBytes tells less than was to be delivered from other bytes.
func judgeBytes(got, want []byte) *finding {
	switch {
	case bytes.Equal(got, want):
		return nil
	case bytes.HasPrefix(want, got):
		return lostFor("%d of %d bytes were delivered", len(got), len(want))
	case bytes.HasPrefix(got, want):
		return corruptFor("%d bytes were delivered, there were %d", len(got), len(want))
	}
	return corruptFor("the %d bytes delivered are not those that were sent", len(got))
}

// graceful tells a close with H3_NO_ERROR.
func (f *plannedFrame) graceful() bool {
	return !f.quic && h3frame.ErrorCode(f.code) == h3frame.ErrCodeNoError
}

// judgeClose holds an error against the close that it must show.
func judgeClose(err error, end *plannedFrame, phase Phase, delivered int) *finding {
	p, ok := ProgressOf(err)
	if !ok || p.Phase != phase || p.Delivered != int64(delivered) || p.FINSeen || p.RetrySafe {
		return corruptFor("%s after %d bytes, in phase %s, shows as %v with %+v", end, delivered, phase, err, p)
	}
	var (
		graceful *GracefulClose
		closed   *ConnClosed
	)
	isGraceful := errors.As(err, &graceful)
	isClosed := errors.As(err, &closed)
	switch {
	case isGraceful != end.graceful(), isGraceful == isClosed, isGraceful && graceful.GoAway,
		isClosed && (closed.Code != end.code || closed.Application == end.quic || !closed.Remote):
		return corruptFor("%s shows as %v", end, err)
	}
	truncated := new(Truncated)
	want := ClassTransportClose
	switch {
	case errors.As(err, &truncated) && isGraceful:
		want = ClassTruncatedGraceful
	case errors.As(err, &truncated):
		want = ClassTruncatedError
	case isGraceful:
		want = ClassGracefulClose
	case !end.quic:
		want = ClassAppClose
	}
	if class := OutcomeOf(err).Class; class != want {
		return corruptFor("%v has class %s, want %s", err, class, want)
	}
	return nil
}

// An orderAccount sums up what came of many plans.
type orderAccount struct {
	mu                     sync.Mutex
	tries, messages, whole int
	lost, corrupt, crashed int
	strayed                int   // plans whose packets arrived otherwise than they were sent
	bytes                  int64 // delivered
	slowest                time.Duration
	drains                 DrainStats
	notes                  []string // for the row
	findings               []string
}

// maxFindings is how many failures are told in full.
const maxFindings = 5

func (a *orderAccount) find(f *finding, what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lost += f.lost
	a.corrupt += f.corrupt
	if len(a.findings) < maxFindings {
		a.findings = append(a.findings, f.why+": "+what)
	}
}

func (a *orderAccount) crash(why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.crashed++
	if len(a.findings) < maxFindings {
		a.findings = append(a.findings, why)
	}
}

func (a *orderAccount) count(got gotMessage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.messages++
	a.bytes += int64(len(got.body))
	if got.calls > 0 && !got.unread && (got.err == nil || errors.Is(got.err, io.EOF)) {
		a.whole++
	}
}

func (a *orderAccount) took(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.slowest = max(a.slowest, d)
}

// addDrains takes what the barriers of a receiver have done.
func (a *orderAccount) addDrains(s DrainStats) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drains.Closes += s.Closes
	a.drains.Bytes += s.Bytes
	a.drains.Unaccepted += s.Unaccepted
	a.drains.TimedOut += s.TimedOut
}

// report makes the row.
func (a *orderAccount) report(t *testing.T, fault string, leaked int) {
	t.Helper()
	for _, f := range a.findings {
		t.Error(f)
	}
	if a.drains.TimedOut != 0 {
		t.Errorf("%d drains timed out", a.drains.TimedOut)
	}
	parts := []string{
		fmt.Sprintf("tailfin_drain_timed_out_total %d", a.drains.TimedOut),
		fmt.Sprintf("%d of %d messages whole, the others cut where they had to be", a.whole, a.messages),
		fmt.Sprintf("%d closes, %d bytes saved", a.drains.Closes, a.drains.Bytes),
	}
	if a.drains.Unaccepted > 0 {
		parts = append(parts, fmt.Sprintf("%d streams accepted by the drain", a.drains.Unaccepted))
	}
	if a.slowest > 0 {
		parts = append(parts, fmt.Sprintf("read at most %d ms after the close", a.slowest.Milliseconds()))
	}
	parts = append(parts, a.notes...)
	hostile.Result{
		Kind: "peer", Fault: fault, Tries: a.tries, Lost: a.lost, Corrupt: a.corrupt, Leaked: leaked, Crashed: a.crashed,
		Bound: strings.Join(parts, ", "),
	}.Report(t)
}

// A leakCheck counts what is left behind.
type leakCheck struct {
	goroutines goleak.Option
	files      int
}

func beginLeakCheck() leakCheck { return leakCheck{goleak.IgnoreCurrent(), openFiles()} }

// leaked is the number of descriptors that are open and were not, and one for goroutines.
func (l leakCheck) leaked(t *testing.T) int {
	t.Helper()
	n := 0
	if err := goleak.Find(l.goroutines); err != nil {
		t.Error(err)
		n++
	}
	for deadline := time.Now().Add(10 * time.Second); openFiles() > l.files && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	return n + max(0, openFiles()-l.files)
}
