package tailfin

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/quic-go/quic-go"
)

// track and its like keep the sets that Shutdown and Close work on.

func (s *Server) track(ln quicListener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return false
	}
	s.init()
	s.listeners[ln] = struct{}{}
	s.accepting.Add(1)
	s.serving.Add(1)
	return true
}

func (s *Server) untrack(ln quicListener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, ln)
}

func (s *Server) trackConn(c *serverConn) {
	c.count()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
}

func (s *Server) untrackConn(c *serverConn) {
	c.uncount()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if c.busy() {
		s.orphans[c] = struct{}{}
	}
	close(c.done)
}

// handlersDone forgets a connection that was over before its last handler.
func (s *Server) handlersDone(c *serverConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.orphans, c)
}

// waitOrphans returns once the handlers of connections that are over have returned,
// or ctx has ended.
func (s *Server) waitOrphans(ctx context.Context) {
	s.mu.Lock()
	orphans := slices.Collect(maps.Keys(s.orphans))
	s.mu.Unlock()
	for _, c := range orphans {
		c.waitIdle(ctx)
	}
}

// init makes the maps of a zero Server. The caller holds mu.
func (s *Server) init() {
	if s.conns == nil {
		s.conns = make(map[*serverConn]struct{})
		s.orphans = make(map[*serverConn]struct{})
		s.listeners = make(map[quicListener]struct{})
	}
}

func (s *Server) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// openConns lists the connections of one transport, or of all for nil.
func (s *Server) openConns(tr *quic.Transport) []*serverConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*serverConn
	for c := range s.conns {
		if tr == nil || c.transport == tr {
			list = append(list, c)
		}
	}
	return list
}

func (s *Server) waitConns(tr *quic.Transport) {
	for _, c := range s.openConns(tr) {
		<-c.done
	}
}

// stop marks the server as stopping.
func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
}

// startClosing closes the listeners, and the channel once no connection is accepted any
// more. quic-go (v0.65.0) waits for the handshakes in progress to end: one that its
// client has given up can hold this up for seconds, and nothing else may wait for it.
func (s *Server) startClosing() <-chan struct{} {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		s.closeListeners()
	}()
	return closed
}

func (s *Server) closeListeners() {
	s.mu.Lock()
	listeners := slices.Collect(maps.Keys(s.listeners))
	s.mu.Unlock()
	var wg sync.WaitGroup
	for _, ln := range listeners {
		wg.Go(func() { _ = ln.Close() })
	}
	wg.Wait()
	s.accepting.Wait() // quic-go hands out what it has queued
}

// Shutdown stops accepting connections, sends GOAWAY on each open one, waits
// until the requests at work are answered, leaves their clients a moment to
// close, and closes what is left with H3_NO_ERROR. What a client has sent before it
// could see the GOAWAY is answered; one that has not asked for anything yet has a
// second to. It also waits for the handlers of clients that have left, which may be
// storing what they sent. If ctx ends first it closes at once and returns the context's
// error; handlers may still be running then.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	closed := s.startClosing()
	var wg sync.WaitGroup
	begun := make(map[*serverConn]bool)
	begin := func() {
		for _, c := range s.openConns(nil) {
			if !begun[c] {
				begun[c] = true
				wg.Go(func() { c.shutdown(ctx) })
			}
		}
	}
	begin()
	select {
	case <-closed:
	case <-ctx.Done():
	}
	begin()
	wg.Wait()
	s.closeConns()
	<-closed
	s.closeConns()
	s.serving.Wait()
	s.waitOrphans(ctx)
	return ctx.Err()
}

// Close stops the server at once and closes every connection with
// H3_NO_ERROR. Handlers may still be running when it returns.
func (s *Server) Close() error {
	s.stop()
	closed := s.startClosing()
	s.closeConns()
	<-closed
	s.closeConns()
	s.serving.Wait()
	return nil
}

func (s *Server) closeConns() {
	var wg sync.WaitGroup
	for _, c := range s.openConns(nil) {
		wg.Go(func() { closeNoError(c.h3.quic) })
	}
	wg.Wait()
}
