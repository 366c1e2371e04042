package natssink

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
)

// metrics of one sink.
type metrics struct {
	publishes   *prometheus.CounterVec
	resent      prometheus.Counter
	seconds     prometheus.Histogram
	reconnects  prometheus.Counter
	connected   prometheus.Gauge
	objects     prometheus.Counter
	objectBytes prometheus.Counter
	swept       prometheus.Counter

	reg  prometheus.Registerer // nil without one
	mine []prometheus.Collector
}

// Values of the label result.
const (
	resultStored      = "stored"
	resultDuplicate   = "duplicate"
	resultFull        = "full"
	resultUnavailable = "unavailable"
	resultRefused     = "refused"
)

// newMetrics makes the metrics and registers them with reg, if there is one.
func newMetrics(reg prometheus.Registerer, pending func() float64) (*metrics, error) {
	m := &metrics{
		publishes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tailfin_nats_publishes_total",
			Help: "Uploads published to JetStream, by result: stored, duplicate (was there already), full, unavailable, refused."}, []string{"result"}),
		resent: prometheus.NewCounter(prometheus.CounterOpts{Name: "tailfin_nats_resent_messages_total",
			Help: "Messages and chunks sent again within one upload, because no acknowledgement came."}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "tailfin_nats_publish_seconds",
			Help:    "Time from the first attempt to publish an upload's message to its acknowledgement, in seconds.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16)}),
		reconnects: prometheus.NewCounter(prometheus.CounterOpts{Name: "tailfin_nats_reconnects_total",
			Help: "Connections to NATS made again after one was lost."}),
		connected: prometheus.NewGauge(prometheus.GaugeOpts{Name: "tailfin_nats_connected",
			Help: "1 while there is a connection to NATS, else 0."}),
		objects: prometheus.NewCounter(prometheus.CounterOpts{Name: "tailfin_nats_objects_stored_total",
			Help: "Bodies put whole into the object store."}),
		objectBytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "tailfin_nats_object_stored_bytes_total",
			Help: "Bytes of bodies put whole into the object store."}),
		swept: prometheus.NewCounter(prometheus.CounterOpts{Name: "tailfin_nats_objects_swept_total",
			Help: "Objects removed because no message referred to them."}),
	}
	for _, result := range []string{resultStored, resultDuplicate, resultFull, resultUnavailable, resultRefused} {
		m.publishes.WithLabelValues(result)
	}
	if reg == nil {
		return m, nil
	}
	m.reg = reg
	inFlight := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "tailfin_nats_in_flight_messages",
		Help: "Messages and chunks sent to JetStream and not acknowledged yet."}, pending)
	for _, c := range []prometheus.Collector{m.publishes, m.resent, m.seconds, m.reconnects, m.connected, m.objects, m.objectBytes, m.swept, inFlight} {
		if err := reg.Register(c); err != nil {
			m.unregister()
			return nil, fmt.Errorf("register metrics: %w", err)
		}
		m.mine = append(m.mine, c)
	}
	return m, nil
}

// unregister lets another sink have the names.
func (m *metrics) unregister() {
	for _, c := range m.mine {
		m.reg.Unregister(c)
	}
}

// count notes how storing an upload ended.
func (m *metrics) count(duplicate bool, err error) {
	var unavailable *sink.UnavailableError
	result := resultStored
	switch {
	case err == nil && duplicate:
		result = resultDuplicate
	case err == nil:
	case sink.IsFull(err):
		result = resultFull
	case errors.As(err, &unavailable):
		result = resultUnavailable
	default:
		result = resultRefused
	}
	m.publishes.WithLabelValues(result).Inc()
}
