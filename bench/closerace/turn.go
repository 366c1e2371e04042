package closerace

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/tailfin-quic/tailfin/bench/peer"
)

// A turn is what one receiver is put to in one round. Messages are numbered from First.
type turn struct {
	Receiver    string        `json:"receiver"`
	Direction   string        `json:"direction"`
	Sender      string        `json:"sender"`
	Size        int           `json:"size"`
	Delay       time.Duration `json:"delay"`
	ReaderDelay time.Duration `json:"reader_delay"`
	Procs       int           `json:"procs"`
	Workers     int           `json:"workers"`
	First       uint64        `json:"first"`
	Count       int           `json:"count"`
}

// An outcome is what a receiver says of a turn.
type outcome struct {
	Unsent   int    `json:"unsent"`   // requests that no answer could be asked for
	Received int    `json:"received"` // messages of which QUIC had every byte before the close
	Whole    int    `json:"whole"`    // messages that the application had whole
	Cut      int    `json:"cut"`      // bodies that were too short, and ended as if they were not
	Wrong    string `json:"wrong"`    // bytes that were not sent
	Saved    uint64 `json:"saved"`    // bytes that the barrier took out of streams at a close
	TimedOut uint64 `json:"timed_out"`
	Drops    uint64 `json:"drops"` // datagrams that the kernel had no room for
	Backend  string `json:"backend"`
	Error    string `json:"error"`
}

// A tally has the two accounts of a turn: of QUIC, and of the application.
type tally struct {
	turn turn
	wire received

	mu    sync.Mutex
	whole map[uint64]struct{}
	cut   int
	wrong error

	progress chan struct{} // capacity 1; a body has ended
}

func newTally(t turn) *tally {
	return &tally{turn: t, whole: make(map[uint64]struct{}), progress: make(chan struct{}, 1)}
}

// pause is what the application does before it reads.
func (t *tally) pause(ctx context.Context) {
	if t.turn.ReaderDelay > 0 {
		select {
		case <-time.After(t.turn.ReaderDelay):
		case <-ctx.Done():
		}
	}
}

// read reads a message to its end as the application does, and judges it.
func (t *tally) read(ctx context.Context, r io.Reader) {
	t.pause(ctx)
	body := bytes.NewBuffer(make([]byte, 0, t.turn.Size+bytes.MinRead))
	_, err := body.ReadFrom(io.LimitReader(r, int64(t.turn.Size)+1))
	t.judge(body.Bytes(), err)
}

// judge counts a body, and err unless it has ended well.
func (t *tally) judge(body []byte, err error) {
	id, ok := peer.NumberOf(body)
	right := !ok || peer.BeginsNumbered(id, body)
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case t.progress <- struct{}{}:
	default:
	}
	if ok {
		_, twice := t.whole[id]
		switch {
		case id < t.turn.First || id >= t.turn.First+uint64(t.turn.Count) || twice:
			t.wrong = fmt.Errorf("a message with number %d, which was not sent or was there already", id)
			return
		case !right || len(body) > t.turn.Size:
			t.wrong = fmt.Errorf("message %d, %d bytes, differs from what was sent", id, len(body))
			return
		}
	}
	switch {
	case err != nil:
	case ok && len(body) == t.turn.Size:
		t.whole[id] = struct{}{}
	default:
		t.cut++
	}
}

// settle waits until what QUIC has received was read, or for a time without progress.
func (t *tally) settle(ctx context.Context, patience time.Duration) {
	for {
		received, _ := t.wire.counts()
		t.mu.Lock()
		done := len(t.whole) >= received
		t.mu.Unlock()
		if done {
			return
		}
		select {
		case <-t.progress:
		case <-time.After(patience):
			return
		case <-ctx.Done():
			return
		}
	}
}

// outcome is what both accounts say.
func (t *tally) outcome() outcome {
	received, _ := t.wire.counts()
	t.mu.Lock()
	defer t.mu.Unlock()
	o := outcome{Received: received, Whole: len(t.whole), Cut: t.cut}
	if t.wrong != nil {
		o.Wrong = t.wrong.Error()
	}
	return o
}
