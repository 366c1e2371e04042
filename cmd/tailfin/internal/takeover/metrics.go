package takeover

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	handovers *prometheus.CounterVec // by role
	forwarded *prometheus.CounterVec // by to
	delivered prometheus.Counter
	dropped   *prometheus.CounterVec // by reason
	draining  prometheus.Gauge
}

// The labels of metrics.
const (
	roleNew       = "new"
	roleOld       = "old"
	roleAbandoned = "abandoned"

	toOlder = "older"
	toNewer = "newer"

	droppedSend    = "send"
	droppedDeliver = "deliver"
	droppedInvalid = "invalid"
)

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "tailfin", Subsystem: "takeover", Name: name, Help: help}, labels)
	}
	m := &metrics{
		handovers: counter("handovers_total", "Hand-overs by what this instance was: new, old, or abandoned by a new instance that ended.", "role"),
		forwarded: counter("forwarded_datagrams_total", "Datagrams that came here and were passed to the older or newer instance that they are for.", "to"),
		dropped:   counter("dropped_datagrams_total", "Datagrams that could not be passed on: no room in the socket between instances (send) or before a shard (deliver), or unusable (invalid). QUIC sends their contents again.", "reason"),
		delivered: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "tailfin", Subsystem: "takeover", Name: "delivered_datagrams_total", Help: "Datagrams that another instance received for this one."}),
		draining:  prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "tailfin", Subsystem: "takeover", Name: "older_instance", Help: "1 while an older instance on the same address finishes its connections."}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.handovers, m.forwarded, m.dropped, m.delivered, m.draining} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
