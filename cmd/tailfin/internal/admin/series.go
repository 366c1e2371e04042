package admin

import (
	"math"
	"runtime"
)

// series makes the values of a chart from each pair of neighbours.
func series(h []sample, f func(old, now *sample, dt float64) float64) values {
	if len(h) < 2 {
		return nil
	}
	v := make(values, 0, len(h)-1)
	for i := 1; i < len(h); i++ {
		v = append(v, over(&h[i-1], &h[i], f))
	}
	return v
}

// over is the value of f between two samples.
func over(old, now *sample, f func(old, now *sample, dt float64) float64) float64 {
	dt := now.at.Sub(old.at).Seconds()
	if dt <= 0 {
		return math.NaN()
	}
	return f(old, now, dt)
}

// grown is by how much a count has grown.
func grown(now, old uint64) float64 {
	if now < old {
		return 0
	}
	return float64(now - old)
}

// charts are those of the page, from samples of which there is at least one.
func (a *Admin) charts(h []sample) []Chart {
	before, last := &h[max(0, len(h)-1-a.sampler.rateSamples())], &h[len(h)-1]
	line := func(name string, area bool, unit string, f func(old, now *sample, dt float64) float64) Line {
		return Line{Name: name, Values: series(h, f), Area: area, Now: formats[unit](over(before, last, f))}
	}
	rate := func(count func(*sample) uint64) func(old, now *sample, dt float64) float64 {
		return func(old, now *sample, dt float64) float64 { return grown(count(now), count(old)) / dt }
	}
	list := []Chart{
		{ID: "datagrams", Title: "Datagrams received", Unit: "rate", Lines: []Line{
			line("received", true, "rate", rate(func(s *sample) uint64 { return s.all.Datagrams })),
			line("dropped", false, "rate", rate(func(s *sample) uint64 { return s.all.KernelDrops + s.all.InboxDrops + s.all.Truncated })),
		}},
		{ID: "bits", Title: "Received", Unit: "bits", Lines: []Line{
			line("payload of datagrams", true, "bits", rate(func(s *sample) uint64 { return 8 * s.all.Bytes })),
		}},
		{ID: "requests", Title: "Requests", Unit: "rate", Lines: []Line{
			line("opened", true, "rate", rate(func(s *sample) uint64 { return s.server.Requests })),
			line("answered 4xx or 5xx", false, "rate", rate(func(s *sample) uint64 { return s.rooms.failed() })),
		}},
		{ID: "uploads", Title: "Uploads stored", Unit: "rate", Lines: []Line{
			line("stored", true, "rate", rate(func(s *sample) uint64 { return s.stored() })),
			line("failed", false, "rate", rate(func(s *sample) uint64 { return s.rooms.storesFailed })),
		}},
		{ID: "seconds", Title: "Time to answer", Unit: "seconds", Lines: []Line{
			line("median", false, "seconds", func(old, now *sample, _ float64) float64 { return now.rooms.seconds.quantile(0.5, old.rooms.seconds) }),
			line("99 of 100 within", false, "seconds", func(old, now *sample, _ float64) float64 { return now.rooms.seconds.quantile(0.99, old.rooms.seconds) }),
		}},
		{ID: "saved", Title: "Saved at closes", Unit: "bytes", Lines: []Line{
			line("bytes that a close would have dropped", true, "bytes", rate(func(s *sample) uint64 { return s.drain.Bytes })),
		}},
		{ID: "open", Title: "At work", Unit: "number", Lines: []Line{
			line("connections open", true, "number", func(_, now *sample, _ float64) float64 { return float64(now.server.ConnsOpen) }),
			line("requests active", false, "number", func(_, now *sample, _ float64) float64 { return float64(now.server.RequestsActive) }),
		}},
		{ID: "cpu", Title: "Processor", Unit: "percent", Lines: []Line{
			line("of "+cores(), true, "percent", func(old, now *sample, dt float64) float64 {
				return 100 * max(0, now.proc.cpu-old.proc.cpu) / dt / float64(runtime.GOMAXPROCS(0))
			}),
		}},
	}
	if last.rooms.seconds.bounds == nil {
		list[4].Empty = "not measured: there is no access log"
	}
	for i := range list {
		list[i].window = a.window()
		list[i].draw()
	}
	return list
}

// stored is the number of uploads stored: by the sink's own count where it has one.
func (s *sample) stored() uint64 {
	if s.rooms.hasStores {
		return s.rooms.stored
	}
	return s.rooms.uploads
}

func cores() string {
	n := runtime.GOMAXPROCS(0)
	if n == 1 {
		return "one core"
	}
	return whole(uint64(n)) + " cores"
}
