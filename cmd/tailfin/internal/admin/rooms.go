package admin

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"unique"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Metrics of the daemon's other parts that the page knows by name. It does
// without those that are not there.
const (
	requestsName = "tailfin_http_requests_total"  // by method and code
	secondsName  = "tailfin_http_request_seconds" // a histogram
	storesName   = "tailfin_sink_stores_total"    // by result, "stored" for those that were
	limitsPrefix = "tailfin_limits_"
	sinkPrefix   = "tailfin_sink_"
	ownPrefix    = "tailfin_"
)

// maxRoomRows bounds the series shown that the page does not know by name.
const maxRoomRows = 60

// rooms is what the page takes from the metrics of the daemon's other parts.
type rooms struct {
	hasRequests bool
	classes     [statusClasses]uint64 // requests by the first digit of their status; 0 for others
	uploads     uint64                // requests that brought something and were answered with 2xx

	hasStores            bool
	stored, storesFailed uint64

	seconds latencies
	other   []roomRow // sorted by name and labels
}

const statusClasses = 6

// A roomRow is one series of a counter or gauge.
type roomRow struct {
	id      unique.Handle[roomID] // five minutes of rows share their texts
	Value   float64
	Counter bool
}

type roomID struct{ name, labels string }

// Name is that of the metric.
func (r roomRow) Name() string { return r.id.Value().name }

// Labels are those of the series: "a=b c=d".
func (r roomRow) Labels() string { return r.id.Value().labels }

// gatherRooms reads them. It is called once a second, whoever looks.
func gatherRooms(g prometheus.Gatherer) rooms {
	var r rooms
	if g == nil {
		return r
	}
	families, _ := g.Gather() // what could be gathered is used; /metrics reports errors
	for _, f := range families {
		switch name := f.GetName(); {
		case name == requestsName:
			r.hasRequests = true
			for _, m := range f.GetMetric() {
				r.addRequests(m)
			}
		case name == secondsName:
			for _, m := range f.GetMetric() {
				r.seconds.add(m.GetHistogram())
			}
		case name == storesName:
			r.hasStores = true
			for _, m := range f.GetMetric() {
				if label(m, "result") == "stored" {
					r.stored += count(m)
				} else {
					r.storesFailed += count(m)
				}
			}
		case strings.HasPrefix(name, ownPrefix):
			r.addOther(f)
		}
	}
	slices.SortFunc(r.other, func(a, b roomRow) int {
		return cmp.Or(cmp.Compare(a.Name(), b.Name()), cmp.Compare(a.Labels(), b.Labels()))
	})
	return r
}

func (r *rooms) addRequests(m *dto.Metric) {
	class, n := 0, count(m)
	if code := label(m, "code"); code != "" && code[0] >= '1' && code[0] <= '5' {
		class = int(code[0] - '0')
	}
	r.classes[class] += n
	switch label(m, "method") {
	case "PUT", "POST", "PATCH", "put", "post", "patch":
		if class == 2 {
			r.uploads += n
		}
	}
}

func (r *rooms) addOther(f *dto.MetricFamily) {
	kind := f.GetType()
	if kind != dto.MetricType_COUNTER && kind != dto.MetricType_GAUGE {
		return
	}
	for _, m := range f.GetMetric() {
		if len(r.other) >= maxRoomRows {
			return
		}
		row := roomRow{Value: m.GetGauge().GetValue()}
		if kind == dto.MetricType_COUNTER {
			row.Counter, row.Value = true, m.GetCounter().GetValue()
		}
		labels := make([]string, len(m.GetLabel()))
		for i, l := range m.GetLabel() {
			labels[i] = l.GetName() + "=" + clip(l.GetValue(), 60)
		}
		row.id = unique.Make(roomID{f.GetName(), strings.Join(labels, " ")})
		r.other = append(r.other, row)
	}
}

// with are the rows whose names have a prefix.
func (r *rooms) with(prefix string) []roomRow {
	var rows []roomRow
	for _, row := range r.other {
		if strings.HasPrefix(row.Name(), prefix) {
			rows = append(rows, row)
		}
	}
	return rows
}

func (r *rooms) failed() uint64 { return r.classes[4] + r.classes[5] }

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

func count(m *dto.Metric) uint64 { return uint64(max(m.GetCounter().GetValue(), 0)) }

// latencies is a histogram: cumulative counts by upper bound in seconds.
type latencies struct {
	total  uint64
	bounds map[float64]uint64
}

func (l *latencies) add(h *dto.Histogram) {
	if l.bounds == nil {
		l.bounds = make(map[float64]uint64)
	}
	l.total += h.GetSampleCount()
	for _, b := range h.GetBucket() {
		l.bounds[b.GetUpperBound()] += b.GetCumulativeCount()
	}
}

// quantile is that of what came since an earlier histogram, interpolated within
// its bucket as Prometheus does. It is NaN if nothing came.
func (l latencies) quantile(q float64, since latencies) float64 {
	total := float64(l.total) - float64(since.total)
	if total <= 0 {
		return math.NaN()
	}
	rank := q * total
	lower, below := 0.0, 0.0
	for _, bound := range slices.Sorted(maps.Keys(l.bounds)) {
		if math.IsInf(bound, 1) {
			break
		}
		upTo := float64(l.bounds[bound]) - float64(since.bounds[bound])
		if upTo >= rank {
			if upTo == below {
				return bound
			}
			return lower + (bound-lower)*(rank-below)/(upTo-below)
		}
		lower, below = bound, upTo
	}
	return lower // above the last bound: no less than it
}
