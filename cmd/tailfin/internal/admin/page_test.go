package admin

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/udp"
)

// TestPageOfNothing: the page copes with parts that are not there.
func TestPageOfNothing(t *testing.T) {
	a, base := start(t, Options{})
	eventually(t, "a sample", func() bool { return a.sampler.last() > 0 })
	c := client(t)
	resp, body := get(t, c, base+"/")
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, "not listening yet") || !strings.Contains(body, "Answers are not counted") {
		t.Errorf("%s\n%s", resp.Status, body)
	}
	s := parseJSON[Status](t, text(t, c, base+"/status.json"))
	if !s.Ready || s.Sections != nil || len(s.Charts) != 8 {
		t.Errorf("%+v", s)
	}
	for path, mime := range map[string]string{"/status.css": "text/css; charset=utf-8", "/status.js": "text/javascript; charset=utf-8", "/favicon.svg": "image/svg+xml"} {
		if resp, body := get(t, c, base+path); resp.StatusCode != http.StatusOK || body == "" || resp.Header.Get("Content-Type") != mime {
			t.Errorf("%s: %s %s", path, resp.Status, resp.Header.Get("Content-Type"))
		}
	}
}

func text(t testing.TB, c *http.Client, url string) string {
	t.Helper()
	resp, body := get(t, c, url)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s", url, resp.Status, body)
	}
	return body
}

// TestPageUnderLoad has the numbers of the page be those of the library.
func TestPageUnderLoad(t *testing.T) {
	d := newDaemon(t, 2)
	d.load(t)
	a, base := start(t, d.options())
	c := client(t)
	eventually(t, "uploads, saved bytes and a check", func() bool {
		return a.sampler.last() > 2 && d.server.DrainStats().Bytes > 0 && gatherRooms(d.reg).stored > 10 && !a.checker.known().at.IsZero()
	})
	seq := a.sampler.last()
	eventually(t, "a sample of it", func() bool { return a.sampler.last() > seq+1 })
	first := parseJSON[Status](t, text(t, c, base+"/status.json?html"))
	eventually(t, "another sample", func() bool {
		return parseJSON[Status](t, text(t, c, base+"/status.json")).Server.Requests > first.Server.Requests
	})
	s := parseJSON[Status](t, text(t, c, base+"/status.json?html"))
	if s.Server.Conns == 0 || s.Drain.Bytes == 0 || len(s.Shards) != 2 || s.Shards[0].Datagrams+s.Shards[1].Datagrams == 0 || s.Listening != d.addr {
		t.Errorf("%+v", s)
	}
	if s.Time.Before(first.Time) || s.UptimeSeconds <= 0 || s.Interval != 1 {
		t.Errorf("%v after %v, up %v s", s.Time, first.Time, s.UptimeSeconds)
	}
	for _, id := range []string{"datagrams", "bits", "requests", "uploads", "seconds", "cpu"} {
		if v := s.Charts[id].Lines[0].Values; len(v) == 0 || v.peak() <= 0 {
			t.Errorf("chart %s has %v", id, v)
		}
	}
	page := text(t, c, base+"/")
	for _, name := range sections {
		if s.Sections[name] == "" || !strings.Contains(page, `id="`+name+`"`) {
			t.Errorf("section %s is missing", name)
		}
	}
	for _, part := range []string{"Takes uploads", "upload.example.net", "Handshakes retried", "v1.2.3", "/.hidden-", d.conns[0].Backend().String()} {
		if !strings.Contains(page, part) {
			t.Errorf("%q is not in the page", part)
		}
	}
	broken := errors.New("read-only file system")
	d.broken.Store(&broken)
	eventually(t, "the broken sink shows", func() bool {
		page := text(t, c, base+"/")
		return strings.Contains(page, "Takes nothing") && strings.Contains(page, "sink: read-only file system") && strings.Contains(page, "Not ready")
	})
}

// TestHostilePage has peers, sinks and certificates say what would be markup.
func TestHostilePage(t *testing.T) {
	const evil = `/<script>alert(1)</script>"'><img src=x onerror=alert(1)>`
	d := newDaemon(t, 1)
	opts := d.options()
	err := errors.New(evil)
	d.broken.Store(&err)
	opts.Certificates = func() []Certificate {
		return []Certificate{{Names: []string{evil}, Issuer: evil, Source: evil, NotAfter: time.Now()}}
	}
	opts.SinkURL = evil
	opts.Version = evil
	evilLabels := prometheus.NewCounterVec(prometheus.CounterOpts{Name: limitsPrefix + "evil_total", Help: "x"}, []string{"peer"})
	evilLabels.WithLabelValues(evil).Inc()
	d.reg.MustRegister(evilLabels)
	d.log.Warn(evil, "path", evil, evil, evil)
	d.ready.SetReady(false, evil)
	a, base := start(t, opts)
	eventually(t, "a check", func() bool { return !a.checker.known().at.IsZero() })
	seq := a.sampler.last()
	eventually(t, "a sample", func() bool { return a.sampler.last() > seq })
	c := client(t)
	page := text(t, c, base+"/")
	sections := strings.Join(slices.Collect(maps.Values(parseJSON[Status](t, text(t, c, base+"/status.json?html")).Sections)), "\n")
	markup := hostile.Result{Kind: "client", Fault: "markup and scripts in what the status page shows of peers"}
	for what, html := range map[string]string{"page": page, "sections": sections} {
		if strings.Contains(html, "<script>alert") || strings.Contains(html, "<img src=x") {
			t.Errorf("the %s is not escaped", what)
			markup.Corrupt++
		}
		n := strings.Count(html, "&lt;script&gt;alert")
		if n < 8 {
			t.Errorf("only %d of the texts are in the %s", n, what)
			markup.Lost++
		}
		markup.Tries += n
	}
	if json := text(t, c, base+"/status.json?html"); strings.Contains(json, "<script>") {
		t.Error("the JSON has a bare script element")
		markup.Corrupt++
	}
	markup.Bound = fmt.Sprintf("all escaped; texts of %d bytes at most, and no inline script runs (%.37s…)", maxText, contentPolicy)
	markup.Report(t)
}

func TestNotYetMeasured(t *testing.T) {
	a, err := New(Options{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, err := a.rendered(asHTML); err == nil || !strings.Contains(err.Error(), "try again") {
		t.Errorf("err is %v", err)
	}
}

// TestSamplesAreBounded also with many shards.
func TestSamplesAreBounded(t *testing.T) {
	var n uint64
	src := sources{
		server:  func() tailfin.ServerStats { n++; return tailfin.ServerStats{Requests: n} },
		drain:   func() tailfin.DrainStats { return tailfin.DrainStats{} },
		notQUIC: func() uint64 { return 0 },
		shards:  func() []udp.Stats { return make([]udp.Stats, udp.MaxShards) },
	}
	s := newSampler(&src, nil, time.Second)
	now := time.Now()
	for i := range 2 * keptSamples {
		s.take(now.Add(time.Duration(i) * time.Second))
	}
	h, seq := s.history()
	if len(h) != keptSamples || seq != uint64(2*keptSamples) || h[0].server.Requests != uint64(keptSamples)+1 {
		t.Errorf("%d samples, the last is %d, the first has %d", len(h), seq, h[0].server.Requests)
	}
	with := 0
	for i := range h {
		if h[i].shards != nil {
			with++
		}
	}
	if with != s.rateSamples()+1 {
		t.Errorf("%d samples have their shards; want %d", with, s.rateSamples()+1)
	}
}

// BenchmarkSample is what watching costs each second.
func BenchmarkSample(b *testing.B) {
	for _, shards := range []int{1, 16} {
		b.Run(fmt.Sprintf("shards=%d", shards), func(b *testing.B) {
			d := newDaemon(b, shards)
			a, err := New(d.options())
			if err != nil {
				b.Fatal(err)
			}
			defer a.Close()
			b.ReportAllocs()
			for b.Loop() {
				a.sampler.take(time.Now())
			}
		})
	}
}

// BenchmarkRender is what looking costs each second.
func BenchmarkRender(b *testing.B) {
	d := newDaemon(b, 2)
	a, err := New(d.options())
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	for range keptSamples {
		a.sampler.take(time.Now())
	}
	b.ReportAllocs()
	for b.Loop() {
		a.pages.seq = 0
		if _, err := a.rendered(asParts); err != nil {
			b.Fatal(err)
		}
	}
}
