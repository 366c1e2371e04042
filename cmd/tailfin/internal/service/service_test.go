package service

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/takeover"
	"github.com/tailfin-quic/tailfin/udp"
)

// TestWatch has a sink that fails for a while.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var state error
		set := func(err error) {
			mu.Lock()
			defer mu.Unlock()
			state = err
		}
		s := &store{
			name: "dir:x",
			check: func(context.Context) error {
				mu.Lock()
				defer mu.Unlock()
				return state
			},
		}
		var log strings.Builder
		ctx, stop := context.WithCancel(t.Context())
		go s.watch(ctx, slog.New(slog.NewTextHandler(&log, nil)))
		see := func(failing bool, lines int) {
			t.Helper()
			time.Sleep(checkEvery + time.Millisecond)
			synctest.Wait()
			if got := s.state(ctx); (got != nil) != failing {
				t.Errorf("state is %v", got)
			}
			if got := strings.Count(log.String(), "\n"); got != lines {
				t.Errorf("%d lines, want %d:\n%s", got, lines, &log)
			}
		}
		see(false, 0)
		set(errors.New("disk is gone"))
		see(true, 1)
		see(true, 1)
		set(nil)
		see(false, 2)
		stop()
		synctest.Wait()
		if !strings.Contains(log.String(), "disk is gone") || !strings.Contains(log.String(), "takes uploads again") {
			t.Errorf("the log:\n%s", &log)
		}
	})
}

// read takes in what comes until the sockets are closed.
func (s *sockets) read(t *testing.T) {
	t.Helper()
	var wg sync.WaitGroup
	for _, c := range s.conns {
		wg.Go(func() {
			buf := make([]byte, 100)
			for {
				if _, _, err := c.ReadFrom(buf); err != nil {
					return
				}
			}
		})
	}
	t.Cleanup(func() {
		s.close()
		wg.Wait()
	})
}

// TestReceive has the watchdog's question answered by shards that are read, and not
// by one whose reader hangs.
func TestReceive(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", ":0"} {
		shards, err := udp.ListenShards("udp", address, 2)
		if err != nil {
			t.Fatal(err)
		}
		s := &sockets{conns: shards.Conns()}
		for i, c := range s.conns {
			s.transports = append(s.transports, &quic.Transport{Conn: c, ConnectionIDGenerator: shards.ConnectionIDs(i)})
		}
		s.read(t)
		if !s.receive(t.Context(), 30*time.Second) {
			t.Errorf("%s: nothing is received", address)
		}
	}
	silent, err := udp.Listen("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sockets{conns: []*udp.Conn{silent}, transports: []*quic.Transport{{Conn: silent}}}
	defer s.close()
	if s.receive(t.Context(), 50*time.Millisecond) {
		t.Error("a socket that nobody reads counts as read")
	}
}

// TestReceiveBeside asks it of an instance that has handed over and finishes its
// requests, and of its successor.
func TestReceiveBeside(t *testing.T) {
	for _, steering := range []bool{true, false} {
		address := "127.0.0.1:0"
		var list []*sockets
		for range 2 {
			ln, err := takeover.Listen(t.Context(), takeover.Config{
				Network: "udp", Address: address, Shards: 2, Takeover: true,
				Options: []udp.Option{udp.WithSteering(steering)}, Logger: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				t.Fatal(err)
			}
			s := &sockets{conns: ln.Shards().Conns(), transports: ln.Transports(), own: ln}
			address = ln.Addr().String()
			if err := ln.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.read(t)
			list = append(list, s)
		}
		<-list[0].superseded()
		for i, s := range list {
			if !s.receive(t.Context(), 20*time.Second) {
				t.Errorf("steering %v: instance %d counts as one that does not read", steering, i)
			}
		}
		list[0].close()
	}
}
