package admin

import (
	"fmt"
	"net/http"
	"regexp"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/udp"
)

const (
	maxScrapes    = 4 // at once
	scrapeTimeout = 10 * time.Second
)

// A metric is a number of a stats struct S. Its labels are constant.
type metric[S any] struct {
	name, help string
	kind       prometheus.ValueType
	labels     prometheus.Labels
	value      func(*S) float64
}

// A described metric has its descriptor.
type described[S any] struct {
	metric[S]
	desc *prometheus.Desc
}

func describe[S any](list []metric[S], variable ...string) []described[S] {
	out := make([]described[S], len(list))
	for i, m := range list {
		out[i] = described[S]{m, prometheus.NewDesc(m.name, m.help, variable, m.labels)}
	}
	return out
}

func send[S any](ch chan<- prometheus.Metric, list []described[S], stats *S, variable ...string) {
	for _, m := range list {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(stats), variable...)
	}
}

// A statsCollector turns the stats of the library into metrics when they are
// asked for: nothing is counted twice, and no hot path knows of it.
type statsCollector struct {
	src    *sources
	server []described[tailfin.ServerStats]
	drain  []described[tailfin.DrainStats]
	shard  []described[udp.Stats]

	notQUIC, trains, backend *prometheus.Desc
}

var _ prometheus.Collector = (*statsCollector)(nil)

// labelShard is the index of a socket. There are udp.MaxShards at most.
const labelShard = "shard"

func newStatsCollector(src *sources) *statsCollector {
	return &statsCollector{
		src:    src,
		server: describe(serverMetrics),
		drain:  describe(drainMetrics),
		shard:  describe(shardMetrics, labelShard),
		notQUIC: prometheus.NewDesc("tailfin_server_stray_packets_total",
			"Packets that belonged to no connection and were no acceptable start of one.", nil, nil),
		trains: prometheus.NewDesc("tailfin_udp_train_datagrams",
			"Receives by the number of datagrams that they held. The sum is that of the datagrams delivered.", []string{labelShard}, nil),
		backend: prometheus.NewDesc("tailfin_udp_backend_info",
			"How the socket is read, and why so. The value is 1.", []string{labelShard, "backend", "reason"}, nil),
	}
}

// Describe sends the descriptors.
func (c *statsCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.server {
		ch <- m.desc
	}
	for _, m := range c.drain {
		ch <- m.desc
	}
	for _, m := range c.shard {
		ch <- m.desc
	}
	ch <- c.notQUIC
	ch <- c.trains
	ch <- c.backend
}

// Collect asks for the stats.
func (c *statsCollector) Collect(ch chan<- prometheus.Metric) {
	server, drain := c.src.server(), c.src.drain()
	send(ch, c.server, &server)
	send(ch, c.drain, &drain)
	ch <- prometheus.MustNewConstMetric(c.notQUIC, prometheus.CounterValue, float64(c.src.notQUIC()))
	for i, stats := range c.src.shards() {
		shard := strconv.Itoa(i)
		send(ch, c.shard, &stats, shard)
		count, buckets := trainBuckets(stats.TrainSizes)
		ch <- prometheus.MustNewConstHistogram(c.trains, count, float64(stats.Datagrams), buckets, shard)
		ch <- prometheus.MustNewConstMetric(c.backend, prometheus.GaugeValue, 1, shard, stats.Backend.String(), clip(stats.Reason, maxText))
	}
}

// trainBuckets is sizes as a histogram: cumulative, by the most datagrams of each.
func trainBuckets(sizes udp.Sizes) (count uint64, buckets map[float64]uint64) {
	buckets = make(map[float64]uint64, len(sizes))
	for i, n := range sizes {
		count += n
		buckets[float64(trainMax(i))] = count
	}
	return count, buckets
}

// trainMax is the most datagrams that receives of udp.Sizes[i] hold.
func trainMax(i int) int {
	if i == len(udp.Sizes{})-1 {
		return 1 << i // the kernel joins no more
	}
	return 1<<(i+1) - 1
}

// A stateCollector has what the admin address itself knows.
type stateCollector struct{ a *Admin }

var (
	_ prometheus.Collector = stateCollector{}

	readyDesc = prometheus.NewDesc("tailfin_ready", "Whether uploads are wanted, by the last check of the sink: 1 or 0.", nil, nil)
	sinkDesc  = prometheus.NewDesc("tailfin_sink_check_ok", "Whether the last check of the sink went well: 1 or 0.", nil, nil)
	certDesc  = prometheus.NewDesc("tailfin_certificate_not_after_timestamp_seconds", "When a certificate in use expires, in seconds since 1970.", []string{"position", "name"}, nil)
	logDesc   = prometheus.NewDesc("tailfin_log_records_total", "Records of the log at Warn, and at Error and above, whether written or not.", []string{"level"}, nil)
)

// Describe sends the descriptors.
func (c stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{readyDesc, sinkDesc, certDesc, logDesc} {
		ch <- d
	}
}

// Collect asks for the state, and not the sink.
func (c stateCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(readyDesc, oneIf(len(c.a.knownReasons()) == 0))
	if c.a.checker != nil {
		if known := c.a.checker.known(); !known.at.IsZero() {
			gauge(sinkDesc, oneIf(known.err == nil))
		}
	}
	for i, cert := range c.a.certificates() {
		gauge(certDesc, float64(cert.NotAfter.Unix()), strconv.Itoa(i), cert.name())
	}
	if c.a.opts.Recent != nil {
		warnings, errors := c.a.opts.Recent.Counts()
		ch <- prometheus.MustNewConstMetric(logDesc, prometheus.CounterValue, float64(warnings), "warn")
		ch <- prometheus.MustNewConstMetric(logDesc, prometheus.CounterValue, float64(errors), "error")
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// liveHeap adds what was live after the last garbage collection: it is level where nothing
// leaks, and what is in use is not.
var liveHeap = collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/gc/heap/live:bytes$`)}

// registry has the metrics that are made here.
func (a *Admin) registry() (*prometheus.Registry, error) {
	reg := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "tailfin_build_info",
		Help:        "Version of the daemon and of Go. The value is 1.",
		ConstLabels: prometheus.Labels{"version": a.opts.Version, "goversion": runtime.Version()},
	})
	build.Set(1)
	for _, c := range []prometheus.Collector{
		newStatsCollector(&a.src), stateCollector{a}, build,
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(liveHeap)),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("admin: metrics: %w", err)
		}
	}
	return reg, nil
}

// Gatherer has all that /metrics shows.
func (a *Admin) Gatherer() prometheus.Gatherer {
	if a.opts.Gatherer == nil {
		return a.own
	}
	return prometheus.Gatherers{a.own, a.opts.Gatherer}
}

func (a *Admin) metricsHandler() http.Handler {
	return promhttp.InstrumentMetricHandler(a.own, promhttp.HandlerFor(a.Gatherer(), promhttp.HandlerOpts{
		ErrorLog:            scrapeLog{a},
		ErrorHandling:       promhttp.ContinueOnError, // the rest is worth having
		Registry:            a.own,
		MaxRequestsInFlight: maxScrapes,
		Timeout:             scrapeTimeout,
		EnableOpenMetrics:   true,
	}))
}

// scrapeLog is where promhttp says what it could not gather.
type scrapeLog struct{ a *Admin }

// Println logs it.
func (l scrapeLog) Println(v ...any) {
	l.a.log.Error("metrics could not be gathered whole", "err", fmt.Sprint(v...))
}
