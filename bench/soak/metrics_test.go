package soak

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const someMetrics = `# TYPE go_gc_heap_live_bytes gauge
go_gc_heap_live_bytes 1.2e+07
# TYPE go_goroutines gauge
go_goroutines 31
# TYPE go_memstats_heap_objects gauge
go_memstats_heap_objects 1000
# TYPE go_memstats_stack_inuse_bytes gauge
go_memstats_stack_inuse_bytes 65536
# TYPE tailfin_http_requests_active gauge
tailfin_http_requests_active 3
# TYPE tailfin_server_connections_open gauge
tailfin_server_connections_open 7
# TYPE tailfin_server_handler_panics_total counter
tailfin_server_handler_panics_total 0
# TYPE tailfin_sink_resumable_uploads gauge
tailfin_sink_resumable_uploads 2
# TYPE tailfin_udp_inbox_dropped_datagrams_total counter
tailfin_udp_inbox_dropped_datagrams_total{shard="0"} 1
tailfin_udp_inbox_dropped_datagrams_total{shard="1"} 0
# TYPE tailfin_udp_kernel_drops_total counter
tailfin_udp_kernel_drops_total{shard="0"} 4
tailfin_udp_kernel_drops_total{shard="1"} 5
# TYPE tailfin_udp_received_datagrams_total counter
tailfin_udp_received_datagrams_total{shard="0"} 100
tailfin_udp_received_datagrams_total{shard="1"} 50
# TYPE tailfin_uring_no_buffers_total counter
tailfin_uring_no_buffers_total{shard="0"} 0
tailfin_uring_no_buffers_total{shard="1"} 0
`

func TestReadMetrics(t *testing.T) {
	got, err := readMetrics(strings.NewReader(someMetrics))
	want := sample{
		fieldHeap: 12e6, fieldGoroutines: 31, fieldObjects: 1000, fieldStacks: 65536, fieldAtWork: 3, fieldConns: 7, fieldPanics: 0,
		fieldPartials: 2, fieldDrops: 10, fieldDatagrams: 150, fieldNoBuffers: 0,
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	for name := range metricFields {
		if name == "tailfin_udp_inbox_dropped_datagrams_total" || name == "tailfin_udp_kernel_drops_total" {
			continue // each has the field of the other
		}
		if _, err := readMetrics(strings.NewReader(strings.ReplaceAll(someMetrics, name, "other"))); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	if _, err := readMetrics(strings.NewReader("<html>")); err == nil {
		t.Error("a page was taken for metrics")
	}
}
