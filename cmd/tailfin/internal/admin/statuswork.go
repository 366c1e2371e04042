package admin

import (
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/tailfin-quic/tailfin"
)

// classNames says what a class of status means here.
var classNames = [statusClasses]string{
	1: "1xx", 2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx", 0: "other",
}

var classNotes = [statusClasses]string{
	1: "interim", 2: "done", 3: "elsewhere, or unchanged", 4: "refused", 5: "failed here", 0: "no answer",
}

// working fills what is said of connections and requests.
func (a *Admin) working(p *view, h []sample) {
	old, recent, now := &h[0], &h[max(0, len(h)-1-a.sampler.rateSamples())], &h[len(h)-1]
	p.NoAnswers = !now.rooms.hasRequests
	if !p.NoAnswers {
		p.Answers = answers(old, recent, now)
	}
	s := &now.server
	p.Work = []fact{
		{"Connections open", whole(uint64(max(s.ConnsOpen, 0)))},
		{"Connections served", whole(s.Conns)},
		{"Requests at work", whole(uint64(max(s.RequestsActive, 0)))},
		{"Requests opened", whole(s.Requests)},
		{"answered to the end", whole(s.RequestsAnswered)},
		{"reset by clients", whole(s.RequestsReset)},
		{"rejected after GOAWAY", whole(s.RequestsRejected)},
		{"Handlers that panicked", whole(s.Panics)},
	}
	if s.EarlyRun+s.EarlyHeld > 0 {
		p.Work = append(p.Work, fact{"0-RTT requests run, held", whole(s.EarlyRun) + ", " + whole(s.EarlyHeld)})
	}
	if s.DatagramsReceived+s.DatagramsSent+s.DatagramsStray > 0 {
		p.Work = append(p.Work,
			fact{"HTTP datagrams in, out", whole(s.DatagramsReceived) + ", " + whole(s.DatagramsSent)},
			fact{"HTTP datagrams dropped, stray", whole(s.DatagramsDropped) + ", " + whole(s.DatagramsStray)})
	}
	limit := func(name, note string, count func(*tailfin.ServerStats) uint64) {
		p.Limits = append(p.Limits, tallyOf(name, note, count(&now.server), count(&old.server), true))
	}
	limit("Connections", "refused: too many open", func(s *tailfin.ServerStats) uint64 { return s.ConnsRefused })
	limit("Connections of an address", "refused: too many open", func(s *tailfin.ServerStats) uint64 { return s.ConnsRefusedPerAddr })
	limit("Handshakes", "refused: too many under way", func(s *tailfin.ServerStats) uint64 { return s.HandshakesRefused })
	limit("Header size", "requests refused", func(s *tailfin.ServerStats) uint64 { return s.HeadersTooLarge })
	limit("Header time", "requests ended", func(s *tailfin.ServerStats) uint64 { return s.HeadTimeouts })
	limit("Body pause", "requests ended", func(s *tailfin.ServerStats) uint64 { return s.BodyTimeouts })
	limit("Request time", "requests ended", func(s *tailfin.ServerStats) uint64 { return s.RequestTimeouts })
	limit("Resets", "connections closed: rapid reset", func(s *tailfin.ServerStats) uint64 { return s.RapidResets })
	limit("Useless frames", "connections closed: flood", func(s *tailfin.ServerStats) uint64 { return s.FrameFloods })
	limit("Malformed heads", "requests refused", func(s *tailfin.ServerStats) uint64 { return s.RequestsMalformed })
	p.Limits = append(p.Limits, roomTallies(now.rooms.with(limitsPrefix), old.rooms.other, limitsPrefix, true)...)
	others := slices.DeleteFunc(slices.Clone(now.rooms.other), func(r roomRow) bool {
		return strings.HasPrefix(r.Name(), limitsPrefix) || strings.HasPrefix(r.Name(), sinkPrefix)
	})
	p.Others = roomTallies(others, old.rooms.other, ownPrefix, false)
	cpu := over(recent, now, func(old, now *sample, dt float64) float64 { return (now.proc.cpu - old.proc.cpu) / dt })
	p.Process = []fact{
		{"Processor", digitsOrNone(cpu) + " of " + cores()},
		{"Memory of Go", byteCount(float64(now.proc.memory)).String()},
		{"Goroutines", whole(now.proc.goroutines)},
		{"System", runtime.GOOS + "/" + runtime.GOARCH + ", " + runtime.Version()},
	}
}

func digitsOrNone(v float64) string { return plainRate(v).Number }

// answers are the requests answered, by the class of their status.
func answers(old, recent, now *sample) []barRow {
	dt := now.at.Sub(recent.at).Seconds()
	var most float64
	for i := range now.rooms.classes {
		most = max(most, grown(now.rooms.classes[i], old.rooms.classes[i]))
	}
	var rows []barRow
	for _, i := range []int{2, 3, 4, 5, 1, 0} {
		total := now.rooms.classes[i]
		if total == 0 && (i < 2 || i == 3) {
			continue
		}
		last := grown(total, old.rooms.classes[i])
		row := barRow{Name: classNames[i], Note: classNotes[i], Total: whole(total), Last: whole(uint64(last)), Rate: none, Bad: i == 5 && last > 0, Refused: i == 4}
		if dt > 0 {
			row.Rate = digits(grown(total, recent.rooms.classes[i]) / dt)
		}
		if most > 0 {
			row.Share = 100 * last / most
		}
		rows = append(rows, row)
	}
	return rows
}

// roomTallies are rows of metrics that the page does not know by name. Their
// names are what is behind the prefix, in words.
func roomTallies(rows, old []roomRow, prefix string, bad bool) []tally {
	before := make(map[any]float64, len(old))
	for _, r := range old {
		before[r.id] = r.Value
	}
	var list []tally
	for _, r := range rows {
		t := tally{Name: inWords(strings.TrimPrefix(r.Name(), prefix)), Note: r.Labels(), Last: ""}
		if !r.Counter {
			t.Total = si(r.Value, "").String()
			list = append(list, t)
			continue
		}
		n := max(0, r.Value-before[r.id])
		t.Total, t.Last, t.Bad = whole(uint64(max(r.Value, 0))), whole(uint64(n)), bad && n > 0
		list = append(list, t)
	}
	return list
}

// inWords is the name of a metric for people: "handshakes_retried_total" is
// "Handshakes retried".
func inWords(name string) string {
	name = strings.ReplaceAll(strings.TrimSuffix(name, "_total"), "_", " ")
	if name == "" {
		return name
	}
	return strings.ToUpper(name[:1]) + name[1:]
}

// keeping fills what is said of closes, the sink and certificates.
func (a *Admin) keeping(p *view, h []sample) {
	old, now := &h[0], &h[len(h)-1]
	p.Saved = byteCount(float64(now.drain.Bytes))
	p.SavedLast = byteCount(grown(now.drain.Bytes, old.drain.Bytes))
	row := func(name, note string, bad bool, count func(*tailfin.DrainStats) uint64) {
		p.Drained = append(p.Drained, tallyOf(name, note, count(&now.drain), count(&old.drain), bad))
	}
	row("Closes met", "", false, func(s *tailfin.DrainStats) uint64 { return s.Closes })
	row("Streams saved", "unread at a close", false, func(s *tailfin.DrainStats) uint64 { return s.Streams })
	row("Streams unaccepted", "nobody had them yet", false, func(s *tailfin.DrainStats) uint64 { return s.Unaccepted })
	row("Read ahead of idle timeouts", "times", false, func(s *tailfin.DrainStats) uint64 { return s.IdleDrains })
	row("Read ahead of resets", "times", false, func(s *tailfin.DrainStats) uint64 { return s.ResetDrains })
	row("Drains timed out", "may have lost bytes", true, func(s *tailfin.DrainStats) uint64 { return s.TimedOut })

	p.Sink = a.sinkState()
	if now.rooms.hasStores {
		p.Stores = append(p.Stores,
			tallyOf("Stored", "", now.rooms.stored, old.rooms.stored, false),
			tallyOf("Failed", "", now.rooms.storesFailed, old.rooms.storesFailed, true))
	}
	p.Stores = append(p.Stores, roomTallies(now.rooms.with(sinkPrefix), old.rooms.other, sinkPrefix, false)...)
	for _, c := range p.Certificates {
		p.Certs = append(p.Certs, certOf(c, now.at))
	}
}

func (a *Admin) sinkState() sinkState {
	s := sinkState{URL: a.opts.SinkURL, State: "not checked"}
	if a.checker == nil {
		return s
	}
	known := a.checker.known()
	switch {
	case known.at.IsZero():
		s.State = "not checked yet"
		return s
	case known.err != nil:
		s.State, s.Detail, s.Bad = "Takes nothing", clip(known.err.Error(), maxText), true
	default:
		s.State = "Takes uploads"
	}
	s.Checked = known.at.UTC().Format(time.TimeOnly)
	return s
}

func certOf(c Certificate, now time.Time) certRow {
	left := c.NotAfter.Sub(now)
	row := certRow{
		Names: clip(strings.Join(c.Names, ", "), maxText), Issuer: clip(c.Issuer, maxText), Source: c.Source,
		Expires: c.NotAfter.UTC().Format("2006-01-02 15:04"),
	}
	if left <= 0 {
		row.Left, row.Warn = "expired "+span(-left)+" ago", "expired"
		return row
	}
	row.Left = "in " + span(left)
	switch {
	case c.Source == devCert && left > certDue:
		row.Source = "development, made in memory"
	case left < certSoon:
		row.Warn = "expires soon"
	}
	return row
}
