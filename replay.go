package tailfin

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
)

// What a Replay keeps if nothing else is asked for, in bytes.
const (
	DefaultReplayPerRequest = 64 << 10
	DefaultReplayTotal      = 16 << 20
)

// A Replay is an http.RoundTripper in front of a Transport, a Fallback or an
// http.Transport for requests whose body can be read once, as those that a server
// forwards. It keeps the first bytes of each body until the response begins, and
// gives the request a GetBody that has them again: so that a request of which nothing
// was sent, or that the peer did not process, can go to another connection though
// somebody has begun to read its body. Whether it may go is Next's to say.
//
// A body of which more was read than is kept, or for which there was no room, is
// sent once as without a Replay. It is safe for concurrent use and must not be copied.
type Replay struct {
	// Next sends the requests.
	Next http.RoundTripper
	// PerRequest bounds what is kept of one body, in bytes. Zero means
	// DefaultReplayPerRequest.
	PerRequest int
	// Total bounds what is kept of all bodies together, in bytes. Zero means
	// DefaultReplayTotal.
	Total int

	held atomic.Int64
}

var _ http.RoundTripper = (*Replay)(nil)

// Held is how many bytes are kept now.
func (r *Replay) Held() int64 { return r.held.Load() }

// RoundTrip sends the request by Next.
func (r *Replay) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body == nil || req.Body == http.NoBody || req.GetBody != nil {
		return r.Next.RoundTrip(req)
	}
	body := newKeptBody(req, r)
	again := *req
	again.Body, again.GetBody, again.Trailer = body.current, body.again, body.trailer
	resp, err := r.Next.RoundTrip(&again)
	body.letGo()
	if resp != nil {
		resp.Request = req
	}
	return resp, err
}

func (r *Replay) perRequest() int {
	if r.PerRequest > 0 {
		return r.PerRequest
	}
	return DefaultReplayPerRequest
}

// take asks to keep n bytes more.
func (r *Replay) take(n int) bool {
	total := r.Total
	if total <= 0 {
		total = DefaultReplayTotal
	}
	if r.held.Add(int64(n)) <= int64(total) {
		return true
	}
	r.held.Add(-int64(n))
	return false
}

// A keptBody is a request body whose first bytes are kept. Each try has a reader
// of its own, of which the last is the current one; one before it may still wait in a
// Read of the source, and what comes there is kept for the current one.
type keptBody struct {
	src     io.ReadCloser
	replay  *Replay
	arrived http.Header   // the trailer of src, filled at its end
	trailer http.Header   // that of the tries, filled when the current one meets the end
	turn    chan struct{} // capacity 1; holding the element means to read src

	mu      sync.Mutex
	kept    []byte // from the start on, unless over
	over    bool   // more was read than is kept: there is no other try
	free    bool   // no other try is wanted
	end     error  // of src, behind kept
	current *keptReader
}

// A keptReader is the body of one try.
type keptReader struct {
	body   *keptBody
	offset int // in kept, while the reader is current; under body.mu

	once   sync.Once
	closed chan struct{}
}

var _ io.ReadCloser = (*keptReader)(nil)

func newKeptBody(req *http.Request, r *Replay) *keptBody {
	b := &keptBody{src: req.Body, replay: r, arrived: req.Trailer, trailer: req.Trailer.Clone(), turn: make(chan struct{}, 1)}
	b.current = &keptReader{body: b, closed: make(chan struct{})}
	return b
}

var errNotKept = errors.New("tailfin: more of the body was read than is kept")

// again is http.Request.GetBody.
func (b *keptBody) again() (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over || b.free {
		return nil, errNotKept
	}
	b.current.shut()
	b.current = &keptReader{body: b, closed: make(chan struct{})}
	return b.current, nil
}

// letGo ends the time of other tries: what is kept goes as it is read, and Close
// of the reader closes the source.
func (b *keptBody) letGo() {
	b.mu.Lock()
	b.free = true
	gone := b.current.isClosed()
	b.dropRead()
	b.mu.Unlock()
	if gone {
		_ = b.current.Close()
	}
}

// dropRead forgets what is kept, once nobody needs it. The caller holds mu.
func (b *keptBody) dropRead() {
	if b.over || b.free && (b.current.offset == len(b.kept) || b.current.isClosed()) {
		b.replay.held.Add(-int64(len(b.kept)))
		b.kept, b.current.offset = nil, 0
	}
}

// Read returns what is kept, and then what the source has.
func (r *keptReader) Read(p []byte) (int, error) {
	if n, err, ok := r.readKept(p); ok {
		return n, err
	}
	b := r.body
	select {
	case b.turn <- struct{}{}:
	case <-r.closed:
		return 0, ErrBodyClosed
	}
	defer func() { <-b.turn }()
	// The reader before may have kept something meanwhile.
	if n, err, ok := r.readKept(p); ok {
		return n, err
	}
	n, err := b.src.Read(p[:r.room(len(p))])
	return r.took(p[:n], err)
}

// readKept reads without the source, if that can be.
func (r *keptReader) readKept(p []byte) (n int, err error, ok bool) {
	b := r.body
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case r.isClosed() || b.current != r:
		return 0, ErrBodyClosed, true
	case r.offset < len(b.kept):
		n = copy(p, b.kept[r.offset:])
		r.offset += n
		b.dropRead()
		return n, nil, true
	case b.end != nil:
		b.ended()
		return 0, b.end, true
	}
	return 0, nil, len(p) == 0
}

// room is how much to read of the source, which wants so many bytes: while the body
// can be had again, no more than may be kept.
func (r *keptReader) room(want int) int {
	b := r.body
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over || b.free {
		return want
	}
	if room := b.replay.perRequest() - len(b.kept); room > 0 {
		return min(want, room)
	}
	b.over = true
	b.dropRead()
	return want
}

// took keeps what was read, if need be, and returns it to the reader of it.
func (r *keptReader) took(p []byte, err error) (int, error) {
	b := r.body
	b.mu.Lock()
	defer b.mu.Unlock()
	b.end = err
	if r != b.current {
		// It is the current one's, whatever room there is.
		b.replay.held.Add(int64(len(p)))
		b.kept = append(b.kept, p...)
		return 0, ErrBodyClosed
	}
	b.ended()
	if b.over || b.free {
		return len(p), err
	}
	if !b.replay.take(len(p)) {
		b.over = true
		b.dropRead()
		return len(p), err
	}
	b.kept = append(b.kept, p...)
	r.offset += len(p)
	return len(p), err
}

// ended hands the trailer to the current try. One before it, which may look at it
// still, writes nothing any more. The caller holds mu.
func (b *keptBody) ended() {
	if errors.Is(b.end, io.EOF) && b.trailer != nil {
		maps.Copy(b.trailer, b.arrived)
	}
}

func (r *keptReader) isClosed() bool {
	select {
	case <-r.closed:
		return true
	default:
		return false
	}
}

// shut ends the reader and leaves the source to another.
func (r *keptReader) shut() { r.once.Do(func() { close(r.closed) }) }

// Close ends the reader. It closes the source if there will be no other.
func (r *keptReader) Close() error {
	r.shut()
	b := r.body
	b.mu.Lock()
	last := b.free && b.current == r
	if last {
		b.dropRead()
	}
	b.mu.Unlock()
	if last {
		return b.src.Close()
	}
	return nil
}
