package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"time"

	"github.com/tailfin-quic/tailfin/udp"
)

// The kinds of clients, as the package's comment has them.
const (
	putSmall  = "put-small"
	putLarge  = "put-large"
	getBytes  = "get"
	getStored = "get-stored"
	echoes    = "echo"
	leave     = "leave"
	short     = "short"
	seldom    = "seldom"
	idle      = "idle"
	slowRead  = "slow-read"
	slowWrite = "slow-write"
	abort     = "abort"
	resets    = "resets"
	resume    = "resume"
	killed    = "killed"
)

// clients are how many there are of each kind, and what each does until it is to stop.
// What all of them do together is meant to take about half of two processors.
var clients = []struct {
	kind string
	n    int
	run  func(l *load, rng *rand.Rand, id int)
}{
	{putSmall, 3, func(l *load, rng *rand.Rand, id int) {
		l.uploads(putSmall, rng, id, 0, 40_000, 20*time.Millisecond, 200*time.Millisecond)
	}},
	{putLarge, 1, func(l *load, rng *rand.Rand, id int) {
		l.uploads(putLarge, rng, id, 1<<20, 12<<20, time.Second, 6*time.Second)
	}},
	{getBytes, 2, (*load).downloads},
	{echoes, 1, (*load).echoing},
	{leave, 1, (*load).leaving},
	{short, 2, (*load).shortly},
	{seldom, 10, func(l *load, rng *rand.Rand, _ int) { l.sometimes(seldom, rng, 4*time.Second, 20*time.Second) }},
	{idle, 40, func(l *load, rng *rand.Rand, _ int) { l.sometimes(idle, rng, 20*time.Second, 80*time.Second) }},
	{slowRead, 2, (*load).slowReading},
	{slowWrite, 2, (*load).slowWriting},
	{abort, 2, (*load).aborting},
	{resets, 1, (*load).resetting},
	{resume, 2, (*load).resuming},
	{killed, 1, (*load).killing},
}

// start starts all clients.
func (l *load) start() {
	stream := uint64(0)
	for _, c := range clients {
		for id := range max(1, int(float64(c.n)*l.Clients)) {
			stream++
			rng := rand.New(rand.NewPCG(l.Seed, stream)) //nolint:gosec // chances that can be had again
			l.all.Go(func() { c.run(l, rng, id) })
		}
	}
	l.all.Go(l.sweeper)
}

// upTo is a size, small ones more often than large ones.
func upTo(rng *rand.Rand, low, high int64) int64 {
	return low + int64(float64(high-low)*rng.Float64()*rng.Float64())
}

// uploads puts on a kept connection, and looks at what is stored; at every fourth over the
// network, too.
func (l *load) uploads(kind string, rng *rand.Rand, id int, low, high int64, least, most time.Duration) {
	tr := l.transport()
	defer func() { _ = tr.Close() }()
	for n := 0; l.pause(within(rng, least, most)); n++ {
		name, c := fmt.Sprintf("%s-%d-%d", kind, id, n), l.content(upTo(rng, low, high))
		if !l.put(kind, tr, name, c) {
			continue
		}
		if n%4 == 0 {
			l.fetch(tr, name, c)
		}
		l.stored(kind, name, c)
	}
}

// fetch gets what is stored, and compares.
func (l *load) fetch(tr http.RoundTripper, name string, c content) {
	begin := time.Now()
	err := l.again(getStored, func(ctx context.Context) error {
		req, err := l.request(ctx, http.MethodGet, "/"+name, nil)
		if err != nil {
			return err
		}
		return answered(tr, req, http.StatusOK, func(resp *http.Response) error {
			_, err := compareBody(resp.Body, c.size, c.fill, nil)
			return err
		})
	})
	if err != nil {
		l.failed(getStored, begin, "GET /"+name, err)
		return
	}
	l.done(getStored, c.size)
}

func (l *load) downloads(rng *rand.Rand, _ int) {
	tr := l.transport()
	defer func() { _ = tr.Close() }()
	for l.pause(within(rng, 50*time.Millisecond, 300*time.Millisecond)) {
		l.get(getBytes, tr, upTo(rng, 0, 1<<20), nil)
	}
}

func (l *load) echoing(rng *rand.Rand, _ int) {
	tr := l.transport()
	defer func() { _ = tr.Close() }()
	for l.pause(within(rng, 50*time.Millisecond, 300*time.Millisecond)) {
		l.echo(echoes, tr, l.content(upTo(rng, 0, 100_000)))
	}
}

// leaving sends an upload and closes right behind it. It must be stored all the same, unless
// datagrams were dropped on their way.
func (l *load) leaving(rng *rand.Rand, id int) {
	for n := 0; l.pause(within(rng, 100*time.Millisecond, 600*time.Millisecond)); n++ {
		name, c := fmt.Sprintf("%s-%d-%d", leave, id, n), l.content(upTo(rng, 1, 20_000))
		begin := time.Now()
		var sent time.Time
		err := l.again(leave, func(ctx context.Context) error {
			tr := l.transport()
			defer func() { _ = tr.Close() }()
			req, err := l.request(ctx, http.MethodPut, "/"+name, &c)
			if err != nil {
				return err
			}
			sent = time.Now()
			return tr.SendAndClose(req)
		})
		if err != nil {
			l.doubt(leave, name, c)
			l.failed(leave, begin, "PUT /"+name+" and leave", err)
			continue
		}
		if l.appears(name, storeTimeout) {
			l.stored(leave, name, c)
			continue
		}
		l.doubt(leave, name, c)
		if l.windows.worst(sent, time.Now()) >= drops {
			l.add(leave, Tally{Unsure: 1})
			continue
		}
		l.add(leave, Tally{Lost: 1})
		l.trouble("%s: /%s was sent %v ago, with FIN and close, and is not stored", leave, name, time.Since(sent).Round(time.Millisecond))
	}
}

// appears waits for what is stored by a name.
func (l *load) appears(name string, within time.Duration) bool {
	for deadline := time.Now().Add(within); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(l.path(name)); err == nil {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// shortly makes a connection for each request, by our client and by another in turn.
func (l *load) shortly(rng *rand.Rand, _ int) {
	for n := 0; l.pause(within(rng, 100*time.Millisecond, 500*time.Millisecond)); n++ {
		var tr closer = l.transport()
		if n%2 == 1 {
			tr = l.foreign()
		}
		l.get(short, tr, upTo(rng, 0, 5000), nil)
		_ = tr.Close()
	}
}

// sometimes keeps a connection, with a request now and then.
func (l *load) sometimes(kind string, rng *rand.Rand, least, most time.Duration) {
	tr := l.transport(udp.WithBackend(udp.Msg))
	defer func() { _ = tr.Close() }()
	if !l.pause(within(rng, 0, most/4)) { // not all at once
		return
	}
	for more := true; more; more = l.pause(within(rng, least, most)) {
		l.get(kind, tr, upTo(rng, 0, 5000), nil)
	}
}

// slowReading takes a body little by little, up to half a minute.
func (l *load) slowReading(rng *rand.Rand, _ int) {
	tr := l.transport()
	defer func() { _ = tr.Close() }()
	for l.pause(within(rng, time.Second, 5*time.Second)) {
		l.get(slowRead, tr, upTo(rng, 1<<20, 8<<20), func() { l.pause(within(rng, 0, 100*time.Millisecond)) })
	}
}

// A trickle is a content that comes little by little.
type trickle struct {
	*contentReader
	wait func()
}

func (t trickle) Read(p []byte) (int, error) {
	t.wait()
	return t.contentReader.Read(p[:min(len(p), 1<<10)])
}

func (l *load) slowWriting(rng *rand.Rand, id int) {
	tr := l.transport()
	defer func() { _ = tr.Close() }()
	for n := 0; l.pause(within(rng, time.Second, 5*time.Second)); n++ {
		name, c := fmt.Sprintf("%s-%d-%d", slowWrite, id, n), l.content(upTo(rng, 1<<10, 200<<10))
		begin := time.Now()
		err := l.again(slowWrite, func(ctx context.Context) error {
			req, err := l.request(ctx, http.MethodPut, "/"+name, &c)
			if err != nil {
				return err
			}
			slow := func() (io.ReadCloser, error) { // read by a goroutine of the Transport
				rng := rand.New(rand.NewPCG(l.Seed, c.id)) //nolint:gosec // chances that can be had again
				return trickle{c.from(0), func() { l.pause(within(rng, 0, 300*time.Millisecond)) }}, nil
			}
			req.GetBody = slow
			req.Body, _ = slow()
			return answered(tr, req, http.StatusCreated, func(resp *http.Response) error { return receipt(resp, c) })
		})
		if err != nil {
			l.doubt(slowWrite, name, c)
			l.failed(slowWrite, begin, "PUT /"+name+", slowly", err)
			continue
		}
		l.stored(slowWrite, name, c)
	}
}

// errGivenUp is why a body of aborting ends.
var errGivenUp = errors.New("given up")

// A cutBody is a content that is given up after some bytes, by a function.
type cutBody struct {
	*contentReader
	after  int64
	giveUp func()
}

func (b *cutBody) Read(p []byte) (int, error) {
	if b.off >= b.after {
		b.giveUp()
		return 0, errGivenUp
	}
	return b.contentReader.Read(p[:min(int64(len(p)), b.after-b.off)])
}

// aborting gives uploads and downloads up half way: by a reset, or with the connection.
// Nothing of such an upload may be stored.
func (l *load) aborting(rng *rand.Rand, id int) {
	tr := l.transport()
	defer func() { _ = tr.Close() }()
	for n := 0; l.pause(within(rng, 100*time.Millisecond, time.Second)); n++ {
		name, c := fmt.Sprintf("%s-%d-%d", abort, id, n), l.content(upTo(rng, 10_000, 4<<20))
		after := rng.Int64N(c.size)
		switch rng.IntN(3) {
		case 0:
			ctx, cancel := context.WithTimeout(l.ctx, requestTimeout)
			l.abortUpload(ctx, tr, name, c, after, cancel)
			cancel()
		case 1:
			ctx, cancel := context.WithTimeout(l.ctx, requestTimeout)
			other := l.transport()
			l.abortUpload(ctx, other, name, c, after, func() {
				go func() { _ = other.Close() }()
				time.Sleep(20 * time.Millisecond) // so that it is not the stream that ends first
			})
			_ = other.Close()
			cancel()
		case 2:
			l.abortDownload(tr, c.size, after)
		}
		l.add(abort, Tally{GivenUp: 1})
	}
}

// abortUpload sends some of a content.
func (l *load) abortUpload(ctx context.Context, tr http.RoundTripper, name string, c content, after int64, giveUp func()) {
	begin := time.Now()
	req, err := l.request(ctx, http.MethodPut, "/"+name, &c)
	if err != nil {
		return
	}
	req.Body, req.GetBody = &cutBody{c.from(0), after, giveUp}, nil
	err = answered(tr, req, http.StatusCreated, func(*http.Response) error { return nil })
	if err == nil {
		l.failed(abort, begin, "PUT /"+name, fmt.Errorf("%w: answered 201 though %d bytes of %d were sent", errCorrupt, after, c.size))
	}
	l.doubt(abort, name, c)
}

// abortDownload takes some of a body.
func (l *load) abortDownload(tr http.RoundTripper, n, after int64) {
	ctx, cancel := context.WithTimeout(l.ctx, requestTimeout)
	defer cancel()
	begin := time.Now()
	req, err := l.request(ctx, http.MethodGet, fmt.Sprintf("/bytes/%d", n), nil)
	if err != nil {
		return
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return // it was to be given up
	}
	_, err = compareBody(io.LimitReader(resp.Body, after), after, pattern, nil)
	_ = resp.Body.Close()
	if errors.Is(err, errCorrupt) && l.windows.worst(begin, time.Now()) < breaks {
		l.failed(abort, begin, "GET "+req.URL.Path, err)
	}
}

// dose is how many requests resetting gives up at a time: no server may close a connection
// for so few.
const dose = 20

// resetting gives requests up as soon as they have begun (CVE-2023-44487), in small doses, and
// has one answered after each.
func (l *load) resetting(rng *rand.Rand, _ int) {
	tr := l.transport()
	defer func() { _ = tr.Close() }()
	for l.pause(within(rng, 2*time.Second, 8*time.Second)) {
		for range dose {
			l.reset(rng, tr)
		}
		l.get(resets, tr, upTo(rng, 0, 5000), nil)
	}
}

// reset gives one up.
func (l *load) reset(rng *rand.Rand, tr http.RoundTripper) {
	ctx, cancel := context.WithCancel(l.ctx)
	defer cancel()
	req, err := l.request(ctx, http.MethodGet, "/bytes/1000000", nil)
	if err != nil {
		return
	}
	time.AfterFunc(within(rng, 0, 2*time.Millisecond), cancel)
	if resp, err := tr.RoundTrip(req); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	l.add(resets, Tally{GivenUp: 1})
}
