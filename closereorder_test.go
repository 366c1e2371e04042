package tailfin

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/h3frame"
	"github.com/tailfin-quic/tailfin/udp"
)

// orderSeed is of all chances here: with it, the number of a plan that a failure names
// and its text say all that is needed to play it again.
const orderSeed = 8

// orderDirections are our side of a connection: what it receives by. readAhead is of
// Server.ReadAhead and the like.
var orderDirections = []struct {
	name string
	bare bool
	open func(t *testing.T, backend udp.Backend, readAhead int) orderReceiver
}{
	{"upload", false, func(t *testing.T, backend udp.Backend, readAhead int) orderReceiver {
		return newOrderServer(t, orderSocket(t, backend), &Server{ReadAhead: readAhead})
	}},
	{"download", false, func(t *testing.T, backend udp.Backend, readAhead int) orderReceiver {
		client := &Transport{ListenOptions: []udp.Option{udp.WithBackend(backend)}, Resolver: loopbackNames{}, ReadAhead: readAhead}
		return newOrderClient(t, "127.0.0.1:0", client, func(f func() error) error { return f() })
	}},
	{"bare streams", true, func(t *testing.T, backend udp.Backend, readAhead int) orderReceiver {
		return newOrderStreams(t, orderSocket(t, backend), readAhead)
	}},
}

func orderSocket(t *testing.T, backend udp.Backend) *udp.Conn {
	t.Helper()
	conn, err := udp.Listen("udp", "127.0.0.1:0", udp.WithBackend(backend))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// orderBackends are two that work here: each reads its part of the connections.
func orderBackends(t *testing.T) (list []udp.Backend) {
	t.Helper()
	for _, backend := range []udp.Backend{udp.Uring, udp.Mmsg, udp.Msg} {
		conn, err := udp.Listen("udp", "127.0.0.1:0", udp.WithBackend(backend))
		if err != nil {
			t.Logf("without %s: %v", backend, err)
			continue
		}
		_ = conn.Close()
		if list = append(list, backend); len(list) == 2 {
			break
		}
	}
	return list
}

func backendNames(list []udp.Backend) string { return strings.Trim(fmt.Sprint(list), "[]") }

// playPlans has n plans played, on the receivers side by side, and accounts for them.
func playPlans(t *testing.T, receivers []orderReceiver, n int, bare bool, makePlan func(i int) *plan) *orderAccount {
	t.Helper()
	return playPlansAtOnce(t, receivers, 1, n, bare, makePlan)
}

// playPlansAtOnce has each receiver take part in some plans at once.
func playPlansAtOnce(t *testing.T, receivers []orderReceiver, atOnce, n int, bare bool, makePlan func(i int) *plan) *orderAccount {
	t.Helper()
	a := &orderAccount{}
	var next atomic.Int64
	var wg sync.WaitGroup
	for _, r := range slices.Repeat(receivers, atOnce) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if a.failing() {
					return
				}
				playPlan(t, r, uint64(i), makePlan(i), bare, a)
			}
		})
	}
	wg.Wait()
	for _, r := range receivers {
		stats, corrupt := r.finish(t)
		a.addDrains(stats)
		if corrupt > 0 {
			a.find(&finding{corrupt: corrupt, why: "delivered, and should not have been, or twice"}, fmt.Sprintf("%d messages", corrupt))
		}
	}
	return a
}

// failing tells that there is nothing more to be learnt: each that hangs takes long.
func (a *orderAccount) failing() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.crashed >= maxFindings
}

// playPlan plays one, and judges what has come of it.
func playPlan(t *testing.T, r orderReceiver, id uint64, p *plan, bare bool, a *orderAccount) {
	log := r.arrived().of(id)
	defer r.arrived().forget(id)
	var (
		f     fate
		ended time.Time
	)
	got, err := r.run(t, id, p, func() ([]bool, error) {
		numbers, err := log.handled(t)
		if err != nil {
			return nil, err
		}
		ended = time.Now()
		f = p.fateOf(numbers)
		if f.end != nil && !slices.Equal(numbers, p.numbers()) {
			a.stray()
		}
		waits := make([]bool, len(p.messages))
		for i, m := range p.messages {
			c := &f.streams[i]
			if bare {
				waits[i] = c.reset == nil && (c.prefix() > 0 || c.whole())
			} else {
				waits[i] = c.reset == nil && !m.uni && c.prefix() >= m.head
			}
		}
		return waits, nil
	})
	a.mu.Lock()
	a.tries++
	a.mu.Unlock()
	if err != nil {
		a.crash(fmt.Sprintf("plan %d: %v: %s", id, err, p))
		return
	}
	a.took(time.Since(ended))
	for i, m := range p.messages {
		c := &f.streams[i]
		what := fmt.Sprintf("plan %d, message %d: %s", id, i, p)
		if got[i].hung {
			a.crash("never delivered, or still read: " + what)
			continue
		}
		var found *finding
		switch left := p.goAway > 0 && f.streams[p.goAway].prefix() == len(p.messages[p.goAway].data); {
		case m.uni && !bare:
			continue
		case left:
			found = judgeGoAway(got[i])
		case f.end == nil && (!m.cut || !c.whole()):
			found = corruptFor("the connection has ended without its close: %v", got[i].err)
		case bare:
			found = m.judgeStream(c, f.end, got[i])
		default:
			found = m.judgeHTTP(numberedBody(contentID(id, i), m.size), c, f.end, got[i], r.isClient())
		}
		a.count(got[i])
		if found != nil {
			a.find(found, what)
		}
	}
}

func (a *orderAccount) stray() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.strayed++
}

// judgeGoAway wants the answer that a GOAWAY gives, whichever close is behind it.
func judgeGoAway(got gotMessage) *finding {
	p, _ := ProgressOf(got.err)
	if class := OutcomeOf(got.err).Class; got.calls > 0 || class != ClassGoAway || !p.RetrySafe || p.Phase != PhaseHeaders {
		return corruptFor("a GOAWAY that covers the request shows as %v, retry safe %t", got.err, p.RetrySafe)
	}
	return nil
}

// openOrderReceivers opens one of each backend, the last of which reads ahead.
func openOrderReceivers(t *testing.T, backends []udp.Backend, open func(t *testing.T, backend udp.Backend, readAhead int) orderReceiver) []orderReceiver {
	var list []orderReceiver
	for i, backend := range backends {
		readAhead := 0
		if i == len(backends)-1 {
			readAhead = 8 << 10
		}
		list = append(list, open(t, backend, readAhead))
	}
	return list
}

// someOrders returns m arrangements of n packets, or all. A third of the few has all
// packets, the last one at the end: a close that overtakes nothing is rare else.
func someOrders(n, m int) [][]int {
	all := arrangements(n)
	if m >= len(all) {
		return all
	}
	var tidy [][]int
	for _, order := range all {
		if len(order) >= n && order[len(order)-1] == n-1 && slices.Index(order, n-1) == len(order)-1 {
			tidy = append(tidy, order)
		}
	}
	return append(evenly(tidy, m/3), evenly(all, m-m/3)...)
}

// evenly returns n of the list, spread over it.
func evenly(list [][]int, n int) [][]int {
	some := make([][]int, n)
	for i := range some {
		some[i] = list[i*len(list)/n+i%max(1, len(list)/n)]
	}
	return some
}

// TestHostileCloseInEveryOrder has a few packets, with STREAM frames, their FIN and a
// CONNECTION_CLOSE, arrive in every order, with every subset lost and any one twice. What
// is delivered is what had come before the close was handled, up to the first gap.
func TestHostileCloseInEveryOrder(t *testing.T) {
	backends := orderBackends(t)
	for _, direction := range orderDirections {
		for s, shape := range orderShapes {
			t.Run(direction.name+", the close "+shape.name, func(t *testing.T) {
				leaks := beginLeakCheck()
				receivers := openOrderReceivers(t, backends, direction.open)
				orders := someOrders(shape.n, hostile.Size(12, math.MaxInt))
				a := playPlans(t, receivers, len(orders), direction.bare, func(i int) *plan {
					rng := rand.New(rand.NewPCG(orderSeed, uint64(s)<<32|uint64(i)))
					p := shape.planOf(rng, uint64(i), orders[i], receivers[0].isClient())
					p.messages[0].uni = direction.bare && i%2 == 1
					return p
				})
				a.mustBeAsSent(t)
				a.report(t, fmt.Sprintf("%d packets in %d orders, some lost, some twice; the close %s (%s; %s)",
					shape.n, len(orders), shape.name, direction.name, backendNames(backends)), leaks.leaked(t))
			})
		}
	}
}

// mustBeAsSent wants packets to arrive as they were sent, but for a few that a busy
// kernel may have dropped: else the plans were not what was tried.
func (a *orderAccount) mustBeAsSent(t *testing.T) {
	t.Helper()
	if a.strayed > a.tries/20 {
		t.Errorf("the packets of %d of %d plans did not arrive as they were sent", a.strayed, a.tries)
	}
}

// TestHostileGoAwayInEveryOrder has the bytes of a GOAWAY on the control stream and the
// close arrive in every order: the request may be sent again if the GOAWAY was whole, and
// not otherwise.
func TestHostileGoAwayInEveryOrder(t *testing.T) {
	backends := orderBackends(t)
	leaks := beginLeakCheck()
	receivers := openOrderReceivers(t, backends, orderDirections[1].open)
	orders := someOrders(4, hostile.Size(12, math.MaxInt))
	a := playPlans(t, receivers, len(orders), false, func(i int) *plan {
		return goAwayPlan(rand.New(rand.NewPCG(orderSeed, uint64(i))), uint64(i), orders[i])
	})
	// We leave by ourselves at the GOAWAY, so that what comes after it may not be handled.
	a.report(t, fmt.Sprintf("a GOAWAY in 3 packets and the close in %d orders (download; %s)", len(orders), backendNames(backends)), leaks.leaked(t))
}

// TestHostileCloseInRandomOrder has up to four messages in up to 160 packets, some lost,
// some sent again with other bounds, a stream reset perhaps, and the close anywhere.
func TestHostileCloseInRandomOrder(t *testing.T) {
	backends := orderBackends(t)
	all := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(all)
	threads := []int{all}
	if all > 1 && hostile.Size(0, 1) > 0 {
		threads = append(threads, 1)
	}
	for d, direction := range orderDirections {
		for p, procs := range threads {
			t.Run(fmt.Sprintf("%s, GOMAXPROCS %d", direction.name, procs), func(t *testing.T) {
				runtime.GOMAXPROCS(procs)
				leaks := beginLeakCheck()
				receivers := openOrderReceivers(t, backends, direction.open)
				a := playPlans(t, receivers, hostile.Size(16, 1000), direction.bare, func(i int) *plan {
					rng := rand.New(rand.NewPCG(orderSeed, uint64(d+1)<<40|uint64(p)<<32|uint64(i)))
					return randomPlan(rng, uint64(i), receivers[0].isClient(), direction.bare, false)
				})
				a.mustBeAsSent(t)
				a.report(t, fmt.Sprintf("up to 4 streams in random order, with losses, twins, resets and readers of all kinds; the close anywhere (%s; %s; GOMAXPROCS %d)",
					direction.name, backendNames(backends), procs), leaks.leaked(t))
			})
		}
	}
}

// TestCloseOrderIsLostWithout shows that the tests above see what is lost: without the
// barrier it is.
func TestCloseOrderIsLostWithout(t *testing.T) {
	const n = 8
	s := newOrderServer(t, orderSocket(t, udp.Auto), &Server{DisableDrain: true})
	s.patience = 200 * time.Millisecond
	a := playPlans(t, []orderReceiver{s}, n, false, func(i int) *plan {
		rng := rand.New(rand.NewPCG(orderSeed, uint64(i)))
		p := orderShapes[0].planOf(rng, uint64(i), []int{0, 1, 2, 3, 4}, false)
		p.readers[0] = late
		return p
	})
	if a.lost+a.crashed == 0 {
		t.Errorf("nothing was lost of %d messages, %d of them whole", a.messages, a.whole)
	}
}

func TestArrangements(t *testing.T) {
	once, all := 0, arrangements(5)
	seen := make(map[string]bool)
	for _, order := range all {
		seen[fmt.Sprint(order)] = true
		if len(order) == len(slices.Compact(slices.Sorted(slices.Values(order)))) {
			once++
		}
	}
	want(t, once, 326) // 5!/5! + 5!/4! + … + 5!/0!
	want(t, len(all), 326+3425)
	want(t, len(seen), len(all))
}

// TestHostileRefusedFrameAheadOfTheClose has a frame that breaks QUIC ahead of the close,
// in its packet, and a whole request in between: quic-go (v0.65.0) handles neither that
// nor the close, but reports both. The drain cannot know, and waits for what never comes;
// it gives up at DrainTimeout, and what had come before is delivered.
func TestHostileRefusedFrameAheadOfTheClose(t *testing.T) {
	const drainTimeout = 200 * time.Millisecond
	leaks, a := beginLeakCheck(), &orderAccount{}
	s := newOrderServer(t, orderSocket(t, udp.Auto), &Server{DrainTimeout: drainTimeout})
	for i := range hostile.Size(4, 40) {
		id := uint64(i)
		l := layout{size: 100, frames: 1}
		p := &plan{
			messages: []*plannedMessage{l.message(contentID(id, 0), orderPath(id, 0), false), l.message(contentID(id, 1), orderPath(id, 1), false)},
			readers:  []readerKind{readerKind(i % int(never)), eager},
		}
		half := len(p.messages[0].data) - 50
		p.volleys = []plannedVolley{{peer.Volley{Way: peer.InTrain}, packetsOf(
			[]plannedFrame{{to: half}},
			[]plannedFrame{
				{from: half - 1, to: half - 1, fin: true}, // ends before what has come: FINAL_SIZE_ERROR
				{message: 1, to: len(p.messages[1].data), fin: true},
				{kind: ofClose, code: uint64(h3frame.ErrCodeNoError)},
			},
		)}}
		var start time.Time
		got, err := s.run(t, id, p, func() ([]bool, error) {
			start = time.Now()
			return []bool{true, false}, nil
		})
		a.tries++
		if err != nil || got[0].hung {
			a.crash(fmt.Sprintf("plan %d: hung %t, %v", i, err == nil, err))
			continue
		}
		a.took(time.Since(start))
		m := p.messages[0]
		if f := judgeBytes(got[0].body, numberedBody(contentID(id, 0), m.content(half))); f != nil {
			a.find(f, p.String())
		}
		var closed *ConnClosed
		if !errors.As(got[0].err, &closed) || closed.Remote || closed.Application || closed.Code != uint64(quic.FinalSizeError) {
			a.find(corruptFor("a violation of QUIC shows as %v", got[0].err), p.String())
		}
	}
	stats, corrupt := s.finish(t)
	a.corrupt += corrupt
	for _, f := range a.findings {
		t.Error(f)
	}
	want(t, stats.TimedOut, uint64(a.tries))
	hostile.Result{
		Kind: "peer", Fault: "a frame that breaks QUIC ahead of the close, in its packet", Tries: a.tries,
		Lost: a.lost, Corrupt: a.corrupt, Leaked: leaks.leaked(t), Crashed: a.crashed,
		Bound: fmt.Sprintf("tailfin_drain_timed_out_total %d, the connection over after %d ms at most (DrainTimeout %d ms)",
			stats.TimedOut, a.slowest.Milliseconds(), drainTimeout.Milliseconds()),
	}.Report(t)
}
