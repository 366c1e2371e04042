package check

import "maps"

// Sources of targets.
const (
	receivePath = "the figures of the receive path"
	benchSuite  = "the figures of the bench suite"
)

// paths that targets hold on, each by itself. Loopback flatters trains.
var paths = []string{"loopback", "veth"}

// Targets are all of them, in the order in which they are reported.
var Targets = makeTargets()

func makeTargets() []Target {
	var list []Target
	for _, path := range paths {
		for _, pinned := range []bool{true, false} {
			list = append(list, recvTargets(path, pinned)...)
		}
		list = append(list, Target{
			Name: "recv/" + path + "/accounts", Source: receivePath, Scenario: "recv",
			Text: "Over " + path + ", each datagram that was sent was read or counted as dropped by the kernel, in every row: rows where it was not",
			// iperf3 has a sender and accounts of its own.
			Cells:  []Cells{{"path": {path}, "reader": {"stock", "msg", "mmsg", "msg-gro", "mmsg-gro", "uring", "uring-gro", "auto", "paced", "unpaced", "c", "c-wait", "c-mmsg"}}},
			Untrue: map[string]string{"accounting": "exact"}, Relation: AtMost,
		})
	}
	for _, path := range paths {
		list = append(list, transferTargets(path)...)
		list = append(list, closeraceTargets(path)...)
	}
	return append(list, others...)
}

// recvTargets are those of reading datagrams, over a path.
func recvTargets(path string, pinned bool) []Target {
	prefix, how := "recv/"+path+"/pinned/", "Over "+path+", a processor for each process, "
	if !pinned {
		prefix, how = "recv/"+path+"/unpinned/", "Over "+path+", on any processor, "
	}
	auto := Cells{"reader": {"auto"}, "path": {path}, "pinned": {pinned}}
	cells := func(more Cells) Cells {
		c := maps.Clone(auto)
		maps.Copy(c, more)
		return c
	}
	// The default payload has to have a row in each cell.
	usual := func(segments, rates []any) Cells {
		return cells(Cells{"sender_segments": segments, "rate": rates, "flows": {1}, "payload_bytes": {usualPayload}})
	}
	list := []Target{
		{
			Name: "train-16-to-stock", Text: "trains of 16 as fast as they can be sent cost at most 0.27 of the processor time that quic-go's own reader takes",
			Cells: []Cells{usual([]any{16}, []any{0})}, Figure: "ratio_to_stock", Relation: AtMost, Bound: 0.27,
		},
		{
			Name: "train-16-to-mmsg-gro", Text: "trains of 16 cost at most 0.88 of what recvmmsg with GRO takes",
			Cells: []Cells{usual([]any{16}, []any{0})}, Figure: "ratio_to_mmsg_gro", Relation: AtMost, Bound: 0.88,
		},
		{
			Name: "train-44-to-stock", Text: "trains of 44 cost at most 0.20 of what quic-go's own reader takes",
			Cells: []Cells{usual([]any{44}, []any{0})}, Figure: "ratio_to_stock", Relation: AtMost, Bound: 0.20,
		},
		{
			Name: "single-to-stock", Text: "datagrams without trains, 20,000 a second, 100,000 and as fast as they can be sent, cost no more than quic-go's own reader takes",
			Cells: []Cells{usual([]any{1}, []any{20_000, 100_000, 0})}, Figure: "ratio_to_stock", Relation: AtMost, Bound: 1,
		},
		{
			Name: "every-cell-to-stock", Text: "no cell of trains (1, 4, 16, 44), flows (1, 16, 256) and rates costs more than 1.05 of what quic-go's own reader takes",
			Cells:  []Cells{cells(Cells{"sender_segments": {1, 4, 16, 44}, "flows": {1, 16, 256}, "rate": {20_000, 100_000, 0}})},
			Figure: "ratio_to_stock", Relation: AtMost, Bound: 1.05,
		},
		{
			Name: "to-c", Text: "reading costs at most 1.2 of what a C program with liburing takes that does the same, saturated by trains of 1, 16 and 44, and at 20,000 and 100,000 a second without trains",
			Cells:  []Cells{usual([]any{1, 16, 44}, []any{0}), usual([]any{1}, []any{20_000, 100_000})},
			Figure: "ratio_to_c", Relation: AtMost, Bound: 1.2,
		},
		{
			// The figure is the growth of the runtime's count of objects, by all goroutines of
			// the process, over the datagrams of a run. It is not rounded to be compared; what a
			// table shows as 0.000 is below 0.0005.
			Name: "allocations", Text: "the reader allocates less than one object in 1000 datagrams when saturated (all objects of the process are counted; a table's 0.000 is below 0.0005)",
			Cells: []Cells{usual([]any{1, 16, 44}, []any{0})}, Figure: "allocs_per_datagram", Relation: Below, Bound: 0.001,
		},
		{
			Name: "p99-idle", Text: "at 1000 datagrams a second, the 99th percentile of latency is at most 1.1 of that of quic-go's own reader",
			Cells: []Cells{usual([]any{1}, []any{1000})}, Figure: "p99_ratio_to_stock", Relation: AtMost, Bound: 1.1,
		},
	}
	for i := range list {
		t := &list[i]
		t.Name, t.Text, t.Scenario, t.Source = prefix+t.Name, how+t.Text, "recv", receivePath
	}
	return list
}

// usualPayload is what quic-go sends once it has found out the path's MTU.
const usualPayload = 1252

// transferTargets are those of uploads over HTTP/3, over a path.
func transferTargets(path string) []Target {
	of := func(drain string, flows int, sender, bottleneck string) []Cells {
		return []Cells{{
			"reader": {"auto"}, "drain": {drain}, "path": {path}, "flows": {flows}, "kind": {"bulk"}, "direction": {"upload"},
			"sender": {sender}, "shards": {1}, "pinned": {true}, "bottleneck": {bottleneck},
		}}
	}
	ours := func(drain string, flows int) []Cells { return of(drain, flows, "quic-go", "none") }
	const cost = "an upload's processor time by GB at the receiver"
	list := []Target{
		{Name: "off", Text: cost + ", without the drain, is at most 0.68 of quic-go's HTTP/3 server's, on one connection", Cells: ours("off", 1), Figure: "ratio_to_stock", Relation: AtMost, Bound: 0.68},
		{Name: "on", Text: cost + ", with the drain, is at most 0.75 of quic-go's HTTP/3 server's, on one connection", Cells: ours("on", 1), Figure: "ratio_to_stock", Relation: AtMost, Bound: 0.75},
		{Name: "off-aim", Text: "beyond that, 0.60 is aimed at without the drain", Cells: ours("off", 1), Figure: "ratio_to_stock", Relation: AtMost, Bound: 0.60, Aim: true},
		{Name: "on-aim", Text: "beyond that, 0.60 is aimed at with the drain", Cells: ours("on", 1), Figure: "ratio_to_stock", Relation: AtMost, Bound: 0.60, Aim: true},
		{Name: "off-16", Text: "for comparison, the same without the drain on 16 connections", Cells: ours("off", 16), Figure: "ratio_to_stock"},
		{Name: "on-16", Text: "for comparison, the same with the drain on 16 connections", Cells: ours("on", 16), Figure: "ratio_to_stock"},
		{Name: "off-256", Text: "for comparison, the same without the drain on 256 connections", Cells: ours("off", 256), Figure: "ratio_to_stock"},
		{Name: "on-256", Text: "for comparison, the same with the drain on 256 connections", Cells: ours("on", 256), Figure: "ratio_to_stock"},
		{
			Name: "off-goodput", Text: "goodput is at least 1.25 of quic-go's where its receiver is the bottleneck, without the drain, on one connection",
			Cells: of("off", 1, "tailfin", "receiver"), Figure: "goodput_ratio_to_stock", Relation: AtLeast, Bound: 1.25,
		},
		{
			Name: "on-goodput", Text: "goodput is at least 1.25 of quic-go's where its receiver is the bottleneck, with the drain, on one connection",
			Cells: of("on", 1, "tailfin", "receiver"), Figure: "goodput_ratio_to_stock", Relation: AtLeast, Bound: 1.25,
		},
		{Name: "off-growth", Text: "a GB on 256 connections costs at most 1.25 of what it costs on one, without the drain", Cells: ours("off", 256), Figure: "cost_to_one_flow", Relation: AtMost, Bound: 1.25},
		{Name: "on-growth", Text: "a GB on 256 connections costs at most 1.25 of what it costs on one, with the drain", Cells: ours("on", 256), Figure: "cost_to_one_flow", Relation: AtMost, Bound: 1.25},
	}
	for i := range list {
		t := &list[i]
		t.Name, t.Text, t.Scenario, t.Source = "transfer/"+path+"/"+t.Name, "Over "+path+", "+t.Text, "transfer", benchSuite
	}
	return list
}

// leastRequests is how many closes a cell of the close race takes: with no loss in
// 5000, fewer than 1 in 1600 are lost, with 95 % confidence.
const leastRequests = 5000

// idleConnections is how many the memory of one is told by.
const idleConnections = 10_000

// closeraceTargets are those of messages whose connection is closed at their end, over a path.
func closeraceTargets(path string) []Target {
	of := func(reader string, more Cells) []Cells {
		c := Cells{"reader": {reader}, "path": {path}, "direction": {"upload", "download"}}
		maps.Copy(c, more)
		return []Cells{c}
	}
	return []Target{
		{
			Name: "closerace/" + path + "/lost", Source: benchSuite, Scenario: "closerace",
			Text:  "Over " + path + ", with the drain, no message that had arrived when its connection was closed is lost, in 5000 of each cell, uploads and downloads",
			Cells: of("auto", Cells{"drain": {"on"}}), Figure: "lost", Relation: AtMost, Bound: 0,
			AtLeast: map[string]float64{"requests": leastRequests},
		},
		{
			Name: "closerace/" + path + "/stock", Source: benchSuite, Scenario: "closerace",
			Text:  "For comparison, the largest share that quic-go's HTTP/3 loses in a cell over " + path,
			Cells: of("stock", nil), Figure: "loss",
		},
	}
}

var others = []Target{
	{
		Name: "idle/memory", Source: benchSuite, Scenario: "idle", Text: "An idle connection takes at most 1.05 of the memory that one of quic-go's HTTP/3 server takes, with the drain, of 10,000",
		Cells: []Cells{{"reader": {"auto"}, "drain": {"on"}}}, Figure: "ratio_to_stock", Relation: AtMost, Bound: 1.05,
		AtLeast: map[string]float64{"conns": idleConnections},
	},
}
