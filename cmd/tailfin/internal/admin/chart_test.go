package admin

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestFormats(t *testing.T) {
	nan := math.NaN()
	for _, tt := range []struct {
		got  string
		want string
	}{
		{digits(0), "0"}, {digits(0.001), "<0.01"}, {digits(0.0123), "0.01"}, {digits(1.234), "1.23"}, {digits(9.999), "10.0"},
		{digits(12.34), "12.3"}, {digits(99.96), "100"}, {digits(1234567.8), "1,234,568"}, {digits(5), "5"}, {digits(-1500), "-1,500"},
		{bits(1.21e9).String(), "1.21\u00a0Gbit/s"}, {bits(999.6).String(), "1.00\u00a0kbit/s"}, {bits(nan).String(), "–\u00a0bit/s"},
		{byteCount(4099603).String(), "4.10\u00a0MB"}, {byteRate(2000).String(), "2\u00a0kB/s"}, {si(5, "").String(), "5"}, {si(5000, "").String(), "5\u00a0k"},
		{seconds(0.00025).String(), "250\u00a0µs"}, {seconds(0.0125).String(), "12.5\u00a0ms"}, {seconds(2).String(), "2\u00a0s"}, {seconds(nan).String(), "–\u00a0ms"},
		{plainRate(1234).String(), "1,234\u00a0/s"}, {percent(12.5).String(), "12.5\u00a0%"},
		{whole(0), "0"}, {whole(999), "999"}, {whole(1000), "1,000"}, {whole(math.MaxUint64), "18,446,744,073,709,551,615"},
		{span(0), "0\u00a0s"}, {span(59 * time.Second), "59\u00a0s"}, {span(60 * time.Second), "1\u00a0min"}, {span(3725 * time.Second), "1\u00a0h 2\u00a0min"}, {span(49 * time.Hour), "2\u00a0d 1\u00a0h"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q; want %q", tt.got, tt.want)
		}
	}
}

func TestPath(t *testing.T) {
	nan := math.NaN()
	for _, tt := range []struct {
		name string
		v    values
		area bool
		want string
	}{
		{"nothing", nil, false, ""},
		{"one", values{5}, false, "M300,52.0"},
		{"line to the right edge", values{0, 10, 5}, false, "M298,100.0L299,4.0L300,52.0"},
		{"gap", values{0, nan, 10}, false, "M298,100.0M300,4.0"},
		{"area", values{0, 10}, true, "M299,108L299,100.0L300,4.0L300,108"},
		{"above the scale", values{1000}, false, "M300,4.0"},
	} {
		if got := tt.v.path(10, tt.area); got != tt.want {
			t.Errorf("%s: %s; want %s", tt.name, got, tt.want)
		}
	}
}

func TestNiceTop(t *testing.T) {
	for v, want := range map[float64]float64{0: 1, math.NaN(): 1, 0.07: 0.08, 1: 1, 1.1: 1.5, 9: 10, 12_350: 15_000, 1e9: 1e9, 6.1e9: 8e9} {
		if got := niceTop(v); math.Abs(got-want) > want*1e-9 {
			t.Errorf("top for %v is %v; want %v", v, got, want)
		}
	}
}

func TestValuesAsJSON(t *testing.T) {
	b, err := json.Marshal(values{0, 1.5, math.NaN(), 123456789, math.Inf(1)})
	if want := "[0,1.5,null,1.2346e+08,null]"; err != nil || string(b) != want {
		t.Errorf("%s, %v; want %s", b, err, want)
	}
}

func TestQuantile(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: secondsName, Help: "x", Buckets: []float64{0.01, 0.1, 1}}, []string{"method"})
	reg.MustRegister(h)
	h.WithLabelValues("GET").Observe(0.5)
	before := gatherRooms(reg).seconds
	if q := before.quantile(0.5, before); !math.IsNaN(q) {
		t.Errorf("median of nothing is %v", q)
	}
	for range 50 {
		h.WithLabelValues("GET").Observe(0.005)
		h.WithLabelValues("PUT").Observe(0.05)
	}
	after := gatherRooms(reg).seconds
	for q, want := range map[float64]float64{0.25: 0.005, 0.5: 0.01, 0.75: 0.055, 1: 0.1} {
		if got := after.quantile(q, before); math.Abs(got-want) > 1e-9 {
			t.Errorf("quantile %v is %v; want %v", q, got, want)
		}
	}
	h.WithLabelValues("PUT").Observe(30)
	if got := gatherRooms(reg).seconds.quantile(1, after); got != 1 {
		t.Errorf("beyond the last bound: %v; want 1", got)
	}
}
