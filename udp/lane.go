package udp

import (
	"errors"
	"net"
	"sync"

	"golang.org/x/net/ipv4"
)

// A reader brings packets from a socket by one backend.
type reader interface {
	source
	// wait blocks until next may have something, the read deadline has passed
	// (os.ErrDeadlineExceeded), or the socket is closed (net.ErrClosed).
	wait() error
}

// A lane is a reader and the splitter behind it. One goroutine at a time reads
// from it; others wait their turn.
type lane struct {
	mu    sync.Mutex
	r     reader
	split splitter
}

func newLane(r reader, stats *counters) *lane {
	return &lane{r: r, split: splitter{src: r, stats: stats}}
}

// readBatch waits for at least one datagram, and returns as many as are there.
func (l *lane) readBatch(ms []ipv4.Message) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if n := l.split.fill(ms); n > 0 {
			return n, nil
		}
		l.split.stats.wakes.Add(1)
		if err := l.r.wait(); err != nil {
			return 0, err
		}
	}
}

// read waits for one datagram, and cuts it to what there is room for.
func (l *lane) read(p, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if n, oobn, flags, addr, ok := l.split.read(p, oob); ok {
			return n, oobn, flags, addr, nil
		}
		l.split.stats.wakes.Add(1)
		if err := l.r.wait(); err != nil {
			return 0, 0, 0, nil, err
		}
	}
}

// errForeign is the answer of a reader to a goroutine that it does not serve.
var errForeign = errors.New("udp: the ring belongs to another goroutine")
