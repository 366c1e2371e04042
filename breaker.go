package tailfin

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/sony/gobreaker/v2"
)

// An Observer is told of every request that has ended: passive health.
type Observer interface {
	// Observe gets the authority, host:port, the outcome, and the time from the
	// request to the response's header section, or to the error if none came.
	// It is called from the goroutine that met the end and must not block.
	Observe(authority string, o Outcome, latency time.Duration)
}

// ErrCircuitOpen is returned for a request that a Breaker did not let through.
// Nothing of it was sent.
var ErrCircuitOpen = errors.New("tailfin: circuit open")

// A Breaker is a circuit breaker for each authority, over
// github.com/sony/gobreaker: closed until there were Failures in a row, then open
// for OpenFor, then half-open, when one request at a time shows how things are.
// What counts as a failure and what is ignored, Outcome.Breaker says. The zero
// value is ready to use; it is safe for concurrent use and must not be copied.
type Breaker struct {
	// Failures in a row open the circuit. Zero means 5.
	Failures int
	// OpenFor is how long it stays open. Zero means 60 seconds.
	OpenFor time.Duration
	// MaxAuthorities bounds the circuits that are kept, those used last. Zero
	// means DefaultMaxAuthorities.
	MaxAuthorities int
	// OnChange is called when a circuit changes its state. It may be nil, and
	// must not call the Breaker.
	OnChange func(authority string, from, to gobreaker.State)

	mu       sync.Mutex
	circuits *simplelru.LRU[string, *gobreaker.TwoStepCircuitBreaker[any]]
}

// defaultFailures is what opens a circuit if nothing else is asked for.
const defaultFailures = 5

// How an Outcome is told to gobreaker.
var (
	errBreakerFailure = errors.New("failure")
	errBreakerIgnored = errors.New("ignored")
)

// Allow asks to send a request to the authority. It returns ErrCircuitOpen, or
// what must be called once with the request's outcome.
func (b *Breaker) Allow(authority string) (done func(Outcome), err error) {
	report, err := b.circuit(authority).Allow()
	if err != nil {
		return nil, fmt.Errorf("%w for %s: %w", ErrCircuitOpen, authority, err)
	}
	return func(o Outcome) {
		switch o.Breaker {
		case Success:
			report(nil)
		case Failure:
			report(errBreakerFailure)
		default:
			report(errBreakerIgnored)
		}
	}, nil
}

// State returns the state of an authority's circuit.
func (b *Breaker) State(authority string) gobreaker.State { return b.circuit(authority).State() }

func (b *Breaker) circuit(authority string) *gobreaker.TwoStepCircuitBreaker[any] {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.circuits == nil {
		size := b.MaxAuthorities
		if size <= 0 {
			size = DefaultMaxAuthorities
		}
		b.circuits, _ = simplelru.NewLRU[string, *gobreaker.TwoStepCircuitBreaker[any]](size, nil) // fails for a size below 1 only
	}
	if c, ok := b.circuits.Get(authority); ok {
		return c
	}
	failures := b.Failures
	if failures <= 0 {
		failures = defaultFailures
	}
	c := gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
		Name:          authority,
		Timeout:       b.OpenFor,
		ReadyToTrip:   func(n gobreaker.Counts) bool { return int(n.ConsecutiveFailures) >= failures },
		OnStateChange: b.OnChange,
		IsExcluded:    func(err error) bool { return errors.Is(err, errBreakerIgnored) },
	})
	b.circuits.Add(authority, c)
	return c
}
