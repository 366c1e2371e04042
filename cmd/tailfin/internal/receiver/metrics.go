package receiver

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics count what a Handler stores. Nil counts nothing.
type Metrics struct {
	stores    *prometheus.CounterVec
	bytes     prometheus.Counter
	seconds   prometheus.Histogram
	resumable *prometheus.CounterVec
}

// What happens to an upload that can be continued.
const (
	eventCreated     = "created"
	eventResumed     = "resumed"
	eventInterrupted = "interrupted"
	eventCompleted   = "completed"
	eventCancelled   = "cancelled"
)

// NewMetrics makes them, and registers them at reg unless that is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		stores: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tailfin_sink_stores_total", Help: "Requests to store a body, by result: stored, or why not.",
		}, []string{"result"}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tailfin_sink_bytes_total", Help: "Bytes of bodies that were stored.",
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tailfin_sink_store_seconds", Help: "Time from a request's head to its body being durable, in seconds; of stored ones.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 10), // to 262 s
		}),
		resumable: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tailfin_sink_resumable_total", Help: "Uploads that can be continued, by event: created, interrupted, resumed, completed, cancelled.",
		}, []string{"event"}),
	}
	for _, r := range results {
		m.stores.WithLabelValues(r)
	}
	for _, e := range []string{eventCreated, eventResumed, eventInterrupted, eventCompleted, eventCancelled} {
		m.resumable.WithLabelValues(e)
	}
	if reg != nil {
		reg.MustRegister(m.stores, m.bytes, m.seconds, m.resumable)
	}
	return m
}

func (m *Metrics) stored(bytes int64, since time.Time) {
	if m == nil {
		return
	}
	m.stores.WithLabelValues(resultStored).Inc()
	m.bytes.Add(float64(bytes))
	m.seconds.Observe(time.Since(since).Seconds())
}

func (m *Metrics) count(result string) {
	if m != nil {
		m.stores.WithLabelValues(result).Inc()
	}
}

func (m *Metrics) event(name string) {
	if m != nil {
		m.resumable.WithLabelValues(name).Inc()
	}
}
