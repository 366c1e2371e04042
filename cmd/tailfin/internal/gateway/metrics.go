package gateway

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sony/gobreaker/v2"

	"github.com/tailfin-quic/tailfin"
)

// metrics are what the gateway counts.
type metrics struct {
	requests  *prometheus.CounterVec
	tries     *prometheus.CounterVec
	bytes     *prometheus.CounterVec
	retries   prometheus.Counter
	fallbacks prometheus.Counter
	inFlight  prometheus.Gauge
	seconds   *prometheus.HistogramVec
}

func counterOpts(name, help string) prometheus.CounterOpts {
	return prometheus.CounterOpts{Namespace: "tailfin", Subsystem: "gateway", Name: name, Help: help}
}

func gaugeOpts(name, help string, labels prometheus.Labels) prometheus.GaugeOpts {
	return prometheus.GaugeOpts{Namespace: "tailfin", Subsystem: "gateway", Name: name, Help: help, ConstLabels: labels}
}

// newMetrics makes the metrics of g, and registers them if there is a registerer.
func newMetrics(reg prometheus.Registerer, g *Gateway) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(counterOpts("requests_total",
			"Requests by status code, protocol of the upstream's answer, and the class and phase in which the upstream's part ended."),
			[]string{"code", "protocol", "class", "phase"}),
		tries: prometheus.NewCounterVec(counterOpts("tries_total",
			"Times that a request was given a connection to the upstream, by whether it was new or reused."), []string{"connection"}),
		bytes: prometheus.NewCounterVec(counterOpts("body_bytes_total",
			"Bytes of bodies by direction: upstream from clients, downstream to clients."), []string{"direction"}),
		retries:   prometheus.NewCounter(counterOpts("retries_total", "Connections that requests were given after their first, in number.")),
		fallbacks: prometheus.NewCounter(counterOpts("fallbacks_total", "Requests that went over HTTP/2 or HTTP/1.1 after HTTP/3 had failed them.")),
		inFlight:  prometheus.NewGauge(gaugeOpts("requests_in_flight", "Requests that are being forwarded.", nil)),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "tailfin", Subsystem: "gateway", Name: "upstream_seconds",
			Help:    "Seconds from a request's header section to that of the upstream's response, retries included.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"protocol"}),
	}
	if reg == nil {
		return m, nil
	}
	all := []prometheus.Collector{m.requests, m.tries, m.bytes, m.retries, m.fallbacks, m.inFlight, m.seconds}
	all = append(all, g.stateMetrics()...)
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// stateMetrics are read when they are asked for.
func (g *Gateway) stateMetrics() []prometheus.Collector {
	authority := g.upstream.authority()
	is := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	list := []prometheus.Collector{
		prometheus.NewGaugeFunc(gaugeOpts("replay_held_bytes", "Bytes of request bodies that are kept so that they can be sent again.", nil),
			func() float64 { return float64(g.replay.Held()) }),
	}
	for _, s := range []gobreaker.State{gobreaker.StateClosed, gobreaker.StateHalfOpen, gobreaker.StateOpen} {
		list = append(list, prometheus.NewGaugeFunc(gaugeOpts("breaker_state", "1 for the state that the circuit of the upstream is in.",
			prometheus.Labels{"state": s.String()}), func() float64 { return is(g.breaker.State(authority) == s) }))
	}
	if g.http3 == nil {
		return list
	}
	if g.tcp != nil {
		for _, c := range []tailfin.Capability{tailfin.Unknown, tailfin.Supported, tailfin.Unsupported} {
			list = append(list, prometheus.NewGaugeFunc(gaugeOpts("http3_capability", "1 for what is known of the upstream's HTTP/3.",
				prometheus.Labels{"state": c.String()}), func() float64 {
				known, _ := g.caps.Of(authority)
				return is(known == c)
			}))
		}
	}
	return append(list,
		prometheus.NewCounterFunc(counterOpts("drain_saved_bytes_total", "Bytes of answers that were saved at closes by the upstream."),
			func() float64 { return float64(g.http3.DrainStats().Bytes) }),
		prometheus.NewCounterFunc(counterOpts("drain_saved_streams_total", "Answers of which something was saved at closes by the upstream."),
			func() float64 { return float64(g.http3.DrainStats().Streams) }),
		prometheus.NewCounterFunc(counterOpts("drain_closes_total", "Connections that the upstream closed."),
			func() float64 { return float64(g.http3.DrainStats().Closes) }),
	)
}

// ended counts an exchange that is over.
func (m *metrics) ended(x *exchange) {
	x.mu.Lock()
	defer x.mu.Unlock()
	class, phase, protocol := "none", "none", x.protocol
	if x.sentTo {
		class, phase = x.outcome.Class.String(), x.outcome.Phase.String()
	}
	if protocol == "" {
		protocol = "none"
	} else {
		m.seconds.WithLabelValues(protocol).Observe(x.headSecs)
	}
	m.requests.WithLabelValues(strconv.Itoa(int(x.status.Load())), protocol, class, phase).Inc()
	tries, fresh := x.tries.Load(), x.fresh.Load()
	m.tries.WithLabelValues("new").Add(float64(fresh))
	m.tries.WithLabelValues("reused").Add(float64(tries - fresh))
	m.retries.Add(float64(max(tries-1, 0)))
	m.bytes.WithLabelValues("upstream").Add(float64(x.received.Load()))
	m.bytes.WithLabelValues("downstream").Add(float64(x.sent.Load()))
}
