package tailfin

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sony/gobreaker/v2"
)

func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const peer = "example.com:443"
		var changes []string
		b := &Breaker{Failures: 3, OpenFor: time.Minute, OnChange: func(authority string, from, to gobreaker.State) {
			changes = append(changes, fmt.Sprintf("%s %s-%s", authority, from, to))
		}}
		tell := func(class Class, phase Phase) {
			t.Helper()
			done, err := b.Allow(peer)
			if err != nil {
				t.Fatal(err)
			}
			done(outcomeRows[outcomeKey{class, phase}])
		}
		// Two failures are not three, and what is ignored neither adds nor takes away.
		tell(ClassIdleTimeout, PhaseHeaders)
		tell(ClassTruncatedGraceful, PhaseBody)
		for range 10 {
			tell(ClassGracefulClose, PhaseHeaders)
			tell(ClassGoAway, PhaseHeaders)
			tell(ClassCancelled, PhaseBody)
			tell(ClassRequestBody, PhaseHeaders)
		}
		want(t, b.State(peer), gobreaker.StateClosed)
		tell(ClassSuccess, PhaseComplete) // in a row, they must be
		tell(ClassDialRefused, PhaseBeforeWire)
		tell(ClassResetOther, PhaseHeaders)
		tell(ClassFrameError, PhaseBody)
		want(t, b.State(peer), gobreaker.StateOpen)
		want(t, b.State("other.example:443"), gobreaker.StateClosed)
		if _, err := b.Allow(peer); !errors.Is(err, ErrCircuitOpen) {
			t.Errorf("open, and %v", err)
		}

		// Half-open it takes one request at a time; a graceful close decides nothing.
		time.Sleep(time.Minute + time.Second)
		want(t, b.State(peer), gobreaker.StateHalfOpen)
		done, err := b.Allow(peer)
		want(t, err, nil)
		if _, err := b.Allow(peer); !errors.Is(err, ErrCircuitOpen) {
			t.Errorf("half-open with a request under way, and %v", err)
		}
		done(outcomeRows[outcomeKey{ClassGracefulClose, PhaseHeaders}])
		want(t, b.State(peer), gobreaker.StateHalfOpen)
		tell(ClassSuccess, PhaseComplete)
		want(t, b.State(peer), gobreaker.StateClosed)
		want(t, fmt.Sprint(changes), fmt.Sprint([]string{
			peer + " closed-open", peer + " open-half-open", peer + " half-open-closed",
		}))
	})
}

// TestBreakerFollowsTheTable has each row count as it says.
func TestBreakerFollowsTheTable(t *testing.T) {
	for _, row := range OutcomeTable() {
		b := &Breaker{Failures: 1}
		done, err := b.Allow("a:443")
		want(t, err, nil)
		done(row)
		want(t, b.State("a:443") == gobreaker.StateOpen, row.Breaker == Failure)
		want(t, b.circuit("a:443").Counts().TotalSuccesses == 1, row.Breaker == Success)
		want(t, b.circuit("a:443").Counts().TotalExclusions == 1, row.Breaker == Ignored)
	}
}

func TestBreakerIsBounded(t *testing.T) {
	b := &Breaker{MaxAuthorities: 10}
	for i := range 1000 {
		if _, err := b.Allow(fmt.Sprintf("host%d:443", i)); err != nil {
			t.Fatal(err)
		}
	}
	want(t, b.circuits.Len(), 10)
}
