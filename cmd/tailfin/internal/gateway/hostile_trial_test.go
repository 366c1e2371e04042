package gateway

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/tailfin-quic/tailfin/bench/hostile"
)

// A trial has an upstream answer wrongly in many ways, one after the other, and keeps
// account of what a gateway's clients see of it.
type trial struct {
	*testGateway
	hostile.Result
	taken *atomic.Int64 // bytes of the last answer that the gateway took

	most   int64 // bytes that it took of any
	before int64 // heap
}

func newTrial(t *testing.T, upstream, fault string, taken *atomic.Int64) *trial {
	t.Helper()
	g := startGateway(t, Config{Upstream: upstream, BreakerFailures: 1 << 30})
	g.client.Timeout = 2 * time.Minute
	return &trial{testGateway: g, Result: hostile.Result{Kind: "peer", Fault: fault}, taken: taken, before: heap()}
}

// ask requests number i. The client must see one of want: statuses, or "cut" for an answer
// that ends in an error.
func (tr *trial) ask(t *testing.T, i int, name, method string, body io.Reader, want string) (seen, got string) {
	t.Helper()
	tr.Tries++
	tr.taken.Store(0)
	resp, got, err := tr.do(t, method, fmt.Sprint("/", i), body)
	var late interface{ Timeout() bool }
	seen = "cut"
	switch {
	case errors.As(err, &late) && late.Timeout():
		t.Errorf("%s: %v", name, err)
		tr.Crashed++
	case err == nil:
		seen = fmt.Sprint(resp.StatusCode)
		tr.Corrupt += unclean(t, name, resp.Header) + unclean(t, name, resp.Trailer)
	}
	if !strings.Contains(" "+want+" ", " "+seen+" ") {
		t.Errorf("%s: %s %.100q, %v, want %s", name, seen, got, err, want)
		tr.Corrupt++
	}
	tr.most = max(tr.most, tr.taken.Load())
	return seen, got
}

// good tells whether a request that the upstream answers well is.
func (tr *trial) good(t *testing.T) bool {
	t.Helper()
	_, body, err := tr.do(t, http.MethodGet, "/good", nil)
	return err == nil && body == "good"
}

// lose says that the request after one was not answered well.
func (tr *trial) lose(t *testing.T, behind string) {
	t.Helper()
	t.Errorf("behind %s: no good answer to the next request", behind)
	tr.Lost++
}

// end reports. bound is how many bytes the gateway may take of an answer.
func (tr *trial) end(t *testing.T, bound int64) {
	t.Helper()
	grown := heap() - tr.before
	eventually(t, "none is at work", func() bool { return tr.metric(t, "requests_in_flight") == 0 })
	if tr.most > bound {
		t.Errorf("the gateway took %d bytes of one answer", tr.most)
	}
	tr.Leaked += int(tr.replay.Held())
	tr.Bound = fmt.Sprintf("at most %d kB taken of an answer without end (1 MiB of head, %d interim responses), heap grown by %d kB; tailfin_gateway_requests_total{code=\"502\"} %.0f",
		tr.most>>10, maxInterim, max(grown, 0)>>10, tr.metric(t, "requests_total", "code=502"))
	tr.Report(t)
}

// unclean counts the fields that are not to reach a client.
func unclean(t *testing.T, name string, header http.Header) (n int) {
	t.Helper()
	for field, values := range header {
		bad := strings.Contains(strings.ToLower(field), "evil") || !httpguts.ValidHeaderFieldName(field)
		for _, v := range values {
			bad = bad || !httpguts.ValidHeaderFieldValue(v)
		}
		switch field {
		case "Connection", "Keep-Alive", "Proxy-Connection", "Upgrade", "Transfer-Encoding":
			bad = true
		}
		if bad {
			t.Errorf("%s: the client got %s: %.100q", name, field, values)
			n++
		}
	}
	return n
}
