package soak

import (
	"errors"
	"fmt"
	"io"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// metricFields are the metrics of a sample. Those with labels are summed.
var metricFields = map[string]string{
	"go_gc_heap_live_bytes":                     fieldHeap,
	"go_memstats_heap_objects":                  fieldObjects,
	"go_memstats_stack_inuse_bytes":             fieldStacks,
	"go_goroutines":                             fieldGoroutines,
	"tailfin_server_connections_open":           fieldConns,
	"tailfin_http_requests_active":              fieldAtWork,
	"tailfin_sink_resumable_uploads":            fieldPartials,
	"tailfin_udp_received_datagrams_total":      fieldDatagrams,
	"tailfin_udp_kernel_drops_total":            fieldDrops,
	"tailfin_udp_inbox_dropped_datagrams_total": fieldDrops,
	"tailfin_uring_no_buffers_total":            fieldNoBuffers,
	"tailfin_server_handler_panics_total":       fieldPanics,
}

// maxMetrics bounds what is read of /metrics.
const maxMetrics = 4 << 20

// readMetrics takes the fields of a sample from the text of /metrics.
func readMetrics(r io.Reader) (sample, error) {
	s := sample{}
	dec := expfmt.NewDecoder(io.LimitReader(r, maxMetrics), expfmt.NewFormat(expfmt.TypeTextPlain))
	for {
		var family dto.MetricFamily
		if err := dec.Decode(&family); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
		field, wanted := metricFields[family.GetName()]
		if !wanted {
			continue
		}
		for _, m := range family.GetMetric() {
			s[field] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for name, field := range metricFields {
		if _, ok := s[field]; !ok {
			return nil, fmt.Errorf("metrics: there is no %s", name)
		}
	}
	return s, nil
}
