package tailfin

import "sync"

// maxIdleWorkers bounds the goroutines that wait for a request, over a whole Server.
const maxIdleWorkers = 1024

// workers run requests on goroutines that are used again. A new goroutine for each
// would grow its stack from the least size, in steps, each time: of a small upload that
// was a tenth of the processor time (Go 1.26).
//
// The zero value is ready. Goroutines that have nothing to do end when close is called
// as often as open.
type workers struct {
	mu   sync.Mutex
	uses int
	idle []*worker // the one that was at work last is at the end, and comes next
}

// A worker is one goroutine.
type worker struct{ next chan task } // capacity 1; closed when the goroutine is to end

// A task is one request to serve.
type task struct {
	conn *serverConn
	str  acceptedStream
	flow *datagramFlow // nil without HTTP datagrams
}

// open keeps goroutines for later tasks until close is called.
func (ws *workers) open() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.uses++
}

// close undoes open. The last ends the goroutines that have nothing to do; the others
// end when they are done.
func (ws *workers) close() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.uses--; ws.uses > 0 {
		return
	}
	for _, w := range ws.idle {
		close(w.next)
	}
	ws.idle = nil
}

// run gives a task to a goroutine, and does not wait.
func (ws *workers) run(t task) {
	ws.mu.Lock()
	last := len(ws.idle) - 1
	if last < 0 {
		ws.mu.Unlock()
		go ws.work(&worker{next: make(chan task, 1)}, t)
		return
	}
	w := ws.idle[last]
	ws.idle[last] = nil
	ws.idle = ws.idle[:last]
	ws.mu.Unlock()
	w.next <- t
}

// work is the goroutine of w.
func (ws *workers) work(w *worker, t task) {
	t.conn.serveStream(t.str, t.flow)
	for ws.park(w) {
		next, ok := <-w.next
		if !ok {
			return
		}
		next.conn.serveStream(next.str, next.flow)
	}
}

// park makes w available for the next task, or reports that it is not wanted.
func (ws *workers) park(w *worker) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.uses <= 0 || len(ws.idle) >= maxIdleWorkers {
		return false
	}
	ws.idle = append(ws.idle, w)
	return true
}
