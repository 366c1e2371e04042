package limits

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin"
)

func from(ip string) net.Addr { return &net.UDPAddr{IP: net.ParseIP(ip), Port: 1234} }

// asked counts how many of n connection attempts are answered by a Retry.
func asked(l *Limits, n int) int {
	count := 0
	for range n {
		if l.VerifySourceAddress(from("192.0.2.1")) {
			count++
		}
	}
	return count
}

// admitted counts how many of n connections from ip may begin.
func admitted(l *Limits, ip string, n int) int {
	count := 0
	for range n {
		if _, err := l.Admit(&quic.ClientInfo{RemoteAddr: from(ip)}); err == nil {
			count++
		}
	}
	return count
}

func want(t *testing.T, what string, got, want int) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %d, want %d", what, got, want)
	}
}

func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Rates{Retry: 10}, prometheus.NewRegistry())
		want(t, "asked above the rate", asked(l, 25), 15)
		time.Sleep(time.Second)
		want(t, "asked a second later", asked(l, 10), 0)
		l.Set(Rates{Retry: 0})
		want(t, "asked of all", asked(l, 5), 5)
		time.Sleep(time.Second)
		want(t, "asked of all, a second later", asked(l, 5), 5)
		l.Set(Rates{Retry: -1})
		want(t, "asked of none", asked(l, 1000), 0)
		want(t, "metric", int(testutil.ToFloat64(l.retries)), 25)
	})
}

func TestHandshakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Rates{Retry: -1, Handshakes: 100, AddrHandshakes: 10}, nil)
		want(t, "of one address", admitted(l, "192.0.2.1", 50), 10)
		want(t, "of another", admitted(l, "192.0.2.2", 10), 10)
		want(t, "of one IPv6 network", admitted(l, "2001:db8::1", 6)+admitted(l, "2001:db8::2", 6), 10)
		for i := range 20 {
			admitted(l, net.IPv4(198, 51, 100, byte(i)).String(), 10)
		}
		want(t, "of all, when their rate is used up", admitted(l, "203.0.113.1", 10), 0)
		time.Sleep(time.Second)
		want(t, "a second later", admitted(l, "203.0.113.2", 10), 10)
		want(t, "refused for one address", int(testutil.ToFloat64(l.refused.WithLabelValues(oneAddr))), 40+2)
		want(t, "refused for all", int(testutil.ToFloat64(l.refused.WithLabelValues(allAddrs))), 130+10)
		l.Set(Rates{Retry: -1})
		want(t, "without limits", admitted(l, "192.0.2.1", 1000), 1000)
	})
}

func TestRequests(t *testing.T) {
	l := New(Rates{Retry: -1, AddrRequests: 2}, nil)
	h := l.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	do := func(ip string) *http.Response {
		r := httptest.NewRequest(http.MethodGet, "/x", nil)
		r = r.WithContext(context.WithValue(r.Context(), tailfin.RemoteAddrContextKey, from(ip)))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Result()
	}
	for i, status := range []int{204, 204, 429} {
		resp := do("192.0.2.1")
		if resp.StatusCode != status {
			t.Errorf("request %d: %s, want %d", i, resp.Status, status)
		}
		if status == 429 && resp.Header.Get("Retry-After") != "1" {
			t.Error("429 without Retry-After")
		}
	}
	if resp := do("192.0.2.2"); resp.StatusCode != http.StatusNoContent {
		t.Errorf("another address: %s", resp.Status)
	}
	want(t, "metric", int(testutil.ToFloat64(l.tooFast)), 1)
}

// TestManyAddresses has more addresses than are remembered.
func TestManyAddresses(t *testing.T) {
	l := New(Rates{Retry: -1, AddrHandshakes: 1}, nil)
	for i := range maxAddrs + 1000 {
		l.addrHandshakes.allow(&net.UDPAddr{IP: net.IPv4(10, byte(i>>16), byte(i>>8), byte(i))})
	}
	want(t, "remembered", l.addrHandshakes.addrs.Len(), maxAddrs)
}
