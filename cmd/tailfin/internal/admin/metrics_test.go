package admin

import (
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/udp"
)

// number fills each numeric field of a struct, and of arrays in it, with a
// number of its own from first on, and returns them by the field's name.
func number(t *testing.T, stats any, first uint64) map[string]float64 {
	t.Helper()
	values := make(map[string]float64)
	v := reflect.ValueOf(stats).Elem()
	set := func(f reflect.Value) {
		if f.CanInt() {
			f.SetInt(int64(first))
		} else {
			f.SetUint(first)
		}
	}
	for i := range v.NumField() {
		name, f := v.Type().Field(i).Name, v.Field(i)
		switch f.Kind() {
		case reflect.String:
			f.SetString("a reason")
		case reflect.Array:
			for j := range f.Len() {
				set(f.Index(j))
				first++
			}
		case reflect.Int, reflect.Int64, reflect.Uint64:
			if f.Type() == reflect.TypeFor[udp.Backend]() {
				f.SetInt(int64(udp.Mmsg))
				continue
			}
			set(f)
			values[name] = float64(first)
			first++
		default:
			t.Fatalf("field %s of %T is a %s: give it a metric, and this test a way to fill it", name, stats, f.Kind())
		}
	}
	return values
}

// numbers are all values that a gatherer has, but for histograms.
func numbers(t *testing.T, g prometheus.Gatherer) map[float64]string {
	t.Helper()
	found := make(map[float64]string)
	for name, f := range gather(t, g) {
		for _, m := range f.GetMetric() {
			if h := m.GetHistogram(); h != nil {
				continue
			}
			found[m.GetCounter().GetValue()+m.GetGauge().GetValue()] = name
		}
	}
	return found
}

func gather(t *testing.T, g prometheus.Gatherer) map[string]*dto.MetricFamily {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	byName := make(map[string]*dto.MetricFamily)
	for _, f := range families {
		byName[f.GetName()] = f
	}
	return byName
}

// TestEveryFieldIsAMetric fails when a field is added to the library's stats
// and not here.
func TestEveryFieldIsAMetric(t *testing.T) {
	var server tailfin.ServerStats
	var drain tailfin.DrainStats
	var shard udp.Stats
	want := map[string]map[string]float64{
		"ServerStats": number(t, &server, 1000), "DrainStats": number(t, &drain, 2000), "udp.Stats": number(t, &shard, 3000),
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(newStatsCollector(&sources{
		server: func() tailfin.ServerStats { return server }, drain: func() tailfin.DrainStats { return drain },
		notQUIC: func() uint64 { return 4000 }, shards: func() []udp.Stats { return []udp.Stats{shard, shard} },
	}))
	found := numbers(t, reg)
	for stats, fields := range want {
		for field, value := range fields {
			if found[value] == "" {
				t.Errorf("no metric has %s.%s; add it to its table", stats, field)
			}
		}
	}
	if found[4000] != "tailfin_server_stray_packets_total" {
		t.Errorf("stray packets are %q", found[4000])
	}
	families := gather(t, reg)
	h := families["tailfin_udp_train_datagrams"].GetMetric()[0].GetHistogram()
	var sum uint64
	for i, n := range shard.TrainSizes {
		sum += n
		b := h.GetBucket()[i]
		if wantBound := []float64{1, 3, 7, 15, 31, 63, 64}[i]; b.GetUpperBound() != wantBound || b.GetCumulativeCount() != sum {
			t.Errorf("bucket %d is %v: %d; want %v: %d", i, b.GetUpperBound(), b.GetCumulativeCount(), wantBound, sum)
		}
	}
	if h.GetSampleCount() != sum || h.GetSampleSum() != float64(shard.Datagrams) {
		t.Errorf("histogram has %d, sum %v; want %d, sum %d", h.GetSampleCount(), h.GetSampleSum(), sum, shard.Datagrams)
	}
	info := families["tailfin_udp_backend_info"].GetMetric()[1]
	if label(info, "backend") != "mmsg" || label(info, "reason") != "a reason" || label(info, labelShard) != "1" {
		t.Errorf("backend info: %v", info)
	}
}

// TestSumOfShards has each field of udp.Stats added up, so that none is missing
// from the page.
func TestSumOfShards(t *testing.T) {
	var a, b udp.Stats
	number(t, &a, 100)
	number(t, &b, 5000)
	sum := reflect.ValueOf(sumShards([]udp.Stats{a, b}))
	for i := range sum.NumField() {
		name := sum.Type().Field(i).Name
		f, fa, fb := sum.Field(i), reflect.ValueOf(a).Field(i), reflect.ValueOf(b).Field(i)
		switch {
		case name == "Backend" || name == "Reason" || name == "TrainSizes":
		case name == "MaxTrain":
			if f.Uint() != fb.Uint() {
				t.Errorf("the longest train is %d", f.Uint())
			}
		case f.Uint() != fa.Uint()+fb.Uint():
			t.Errorf("%s is %d; want %d", name, f.Uint(), fa.Uint()+fb.Uint())
		}
	}
	for i, n := range sumShards([]udp.Stats{a, b}).TrainSizes {
		if n != a.TrainSizes[i]+b.TrainSizes[i] {
			t.Errorf("train sizes %d: %d", i, n)
		}
	}
}

func TestMetricsAreClean(t *testing.T) {
	d := newDaemon(t, 2)
	tr := d.transport(t)
	if code, err := d.put(t.Context(), tr, "report", 1000); err != nil || code != 201 {
		t.Fatal(code, err)
	}
	d.log.Warn("something")
	a, base := start(t, d.options())
	eventually(t, "a check of the sink", func() bool { return !a.checker.known().at.IsZero() })
	problems, err := testutil.GatherAndLint(a.Gatherer())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}

	c := client(t)
	for _, tt := range []struct{ accept, mime, end string }{
		{"", "text/plain; version=0.0.4", ""},
		{"application/openmetrics-text;version=1.0.0", "application/openmetrics-text", "# EOF\n"},
	} {
		resp, body := get(t, c, base+"/metrics", "Accept", tt.accept)
		if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), tt.mime) || !strings.HasSuffix(body, tt.end) {
			t.Errorf("Accept %q: %s, %s", tt.accept, resp.Status, resp.Header.Get("Content-Type"))
		}
	}
	_, body := get(t, c, base+"/metrics")
	for _, line := range []string{
		"tailfin_server_connections_total 1", "tailfin_server_requests_total 1", `tailfin_http_requests_total{code="201",method="PUT"} 1`,
		`tailfin_sink_stores_total{result="stored"} 1`, "tailfin_ready 1", "tailfin_sink_check_ok 1", `tailfin_log_records_total{level="warn"} 1`,
		`tailfin_build_info{goversion="`, "go_goroutines ", "go_gc_heap_live_bytes ", "process_cpu_seconds_total ", "promhttp_metric_handler_requests_total",
		`tailfin_udp_backend_info{backend="` + d.conns[0].Backend().String() + `"`,
	} {
		if !strings.Contains(body, line) {
			t.Errorf("%q is not in /metrics", line)
		}
	}
	total := 0.0
	dec := expfmt.NewDecoder(strings.NewReader(body), expfmt.NewFormat(expfmt.TypeTextPlain))
	for {
		var f dto.MetricFamily
		if err := dec.Decode(&f); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if f.GetName() == "tailfin_udp_received_datagrams_total" {
			if len(f.GetMetric()) != 2 {
				t.Errorf("%d shards", len(f.GetMetric()))
			}
			for _, m := range f.GetMetric() {
				total += m.GetCounter().GetValue()
			}
		}
	}
	if total == 0 {
		t.Error("no datagrams were counted")
	}
}

func TestCertificateMetric(t *testing.T) {
	expires := time.Now().Add(time.Hour).Truncate(time.Second)
	many := make([]Certificate, 1000)
	for i := range many {
		many[i] = Certificate{Names: []string{"same.example"}, NotAfter: expires}
	}
	a, err := New(Options{Certificates: func() []Certificate { return many }, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	f := gather(t, a.Gatherer())["tailfin_certificate_not_after_timestamp_seconds"]
	if len(f.GetMetric()) != maxCertificates {
		t.Errorf("%d series for 1000 certificates; want %d", len(f.GetMetric()), maxCertificates)
	}
	if got := f.GetMetric()[0].GetGauge().GetValue(); got != float64(expires.Unix()) {
		t.Errorf("expires at %v; want %d", got, expires.Unix())
	}
}
