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

// TestReceives has the watchdog's question answered by shards that are read, and not
// by one whose reader hangs.
func TestReceives(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", ":0"} {
		shards, err := udp.ListenShards("udp", address, 2)
		if err != nil {
			t.Fatal(err)
		}
		conns := shards.Conns()
		var wg sync.WaitGroup
		for _, c := range conns {
			wg.Go(func() {
				buf := make([]byte, 100)
				for {
					if _, _, err := c.ReadFrom(buf); err != nil {
						return
					}
				}
			})
		}
		if !receives(t.Context(), conns, 30*time.Second) {
			t.Errorf("%s: nothing is received", address)
		}
		_ = shards.Close()
		wg.Wait()
	}
	silent, err := udp.Listen("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if receives(t.Context(), []*udp.Conn{silent}, 50*time.Millisecond) {
		t.Error("a socket that nobody reads counts as read")
	}
}
