package natssink

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// send gives a message to the connection, when there is one and when fewer than
// in-flight messages wait for their acknowledgement.
//
// nats.go itself never sends it again (WithRetryAttempts): that would be behind
// messages that came after it, and out of a buffer that may be in use for
// another chunk by then.
func (s *Sink) send(ctx context.Context, msg *nats.Msg, stream string) (jetstream.PubAckFuture, error) {
	wait, cancel := context.WithTimeout(ctx, s.cfg.Wait)
	defer cancel()
	if err := s.link.await(wait); err != nil {
		return nil, s.unavailable(err)
	}
	return s.js.PublishMsgAsync(msg, jetstream.WithExpectStream(stream),
		jetstream.WithRetryAttempts(0), jetstream.WithStallWait(s.cfg.Wait))
}

// acked waits for the answer to a message.
func acked(ctx context.Context, sent jetstream.PubAckFuture) (*jetstream.PubAck, error) {
	select {
	case ack := <-sent.Ok():
		return ack, nil
	case err := <-sent.Err():
		return nil, err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// publish sends msg, which has a Nats-Msg-Id, until it is acknowledged. If it
// fails, sure tells whether the message was certainly not stored.
func (s *Sink) publish(msg *nats.Msg, stream string) (ack *jetstream.PubAck, sure bool, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Wait+s.cfg.AckWait)
	defer cancel()
	again := patience{wait: s.cfg.Wait}
	for {
		sent, err := s.send(ctx, msg, stream)
		if err == nil {
			ack, err = acked(ctx, sent)
		}
		if err == nil {
			return ack, true, nil
		}
		var refused *jetstream.APIError
		sure = errors.As(err, &refused) && again.failures == 0
		if errors.Is(err, jetstream.ErrNoStreamResponse) {
			s.target.Store(nil) // it may have been removed: the next upload looks
		}
		if err := again.pause(ctx, err); err != nil {
			return nil, sure, err
		}
		s.m.resent.Inc()
	}
}

// requestTime bounds one request to JetStream that is not a message. It learns of a
// lost connection in no other way.
const requestTime = 5 * time.Second

// ask makes a request that changes nothing, and makes it again if the connection is
// lost meanwhile.
func (s *Sink) ask(ctx context.Context, request func(context.Context) error) error {
	again := patience{wait: s.cfg.Wait}
	for {
		wait, cancel := context.WithTimeout(ctx, s.cfg.Wait)
		err := s.link.await(wait)
		cancel()
		if err != nil {
			return s.unavailable(err)
		}
		one, cancel := context.WithTimeout(ctx, min(requestTime, s.cfg.AckWait))
		err = request(one)
		cancel()
		if err == nil {
			return nil
		}
		if err := again.pause(ctx, err); err != nil {
			return err
		}
	}
}

// patience bounds how long the same thing is tried.
type patience struct {
	wait     time.Duration // from the first failure on
	since    time.Time
	failures int
}

// Pauses between attempts double up to maxPause. Half of each is random.
const (
	minPause = 10 * time.Millisecond
	maxPause = 500 * time.Millisecond
)

// pause waits before another attempt, or returns err if there is to be none.
func (p *patience) pause(ctx context.Context, err error) error {
	if !transient(err) || ctx.Err() != nil {
		return err
	}
	if p.failures == 0 {
		p.since = time.Now()
	}
	if p.failures++; time.Since(p.since) > p.wait {
		return err
	}
	d := min(minPause<<min(p.failures-1, 10), maxPause)
	timer := time.NewTimer(d/2 + rand.N(d/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return err
	}
}
