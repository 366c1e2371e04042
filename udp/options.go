package udp

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/tailfin-quic/tailfin/uring"
)

// Environment variables that switch something off without a change of code, for
// operators, whatever the options say. They take what strconv.ParseBool takes.
const (
	// EnvDisableUring keeps Auto from using io_uring, and makes Uring an error.
	EnvDisableUring = "TAILFIN_DISABLE_URING"
	// EnvDisableGRO is WithGRO(false).
	EnvDisableGRO = "TAILFIN_DISABLE_GRO"
	// EnvDisableModeration is WithModeration(0).
	EnvDisableModeration = "TAILFIN_DISABLE_MODERATION"
	// EnvDisableSteering is WithSteering(false).
	EnvDisableSteering = "TAILFIN_DISABLE_EBPF"
)

// An Option changes how Listen makes a Conn.
type Option func(*options)

type options struct {
	backend Backend
	gro     bool
	strict  bool
	buffers int

	log *slog.Logger

	moderation time.Duration
	steering   bool
	generation int

	uringOff bool // by EnvDisableUring
}

// WithBackend asks for a backend. The default is Auto.
func WithBackend(b Backend) Option { return func(o *options) { o.backend = b } }

// WithGRO says whether the kernel may hand over trains of datagrams of one
// peer at a time (UDP_GRO, Linux 5.0). The default is true, and where the
// kernel cannot do it Conn.GRO is false. Without GRO there is room for datagrams
// of up to 2048 bytes, and longer ones are dropped and counted.
func WithGRO(on bool) Option { return func(o *options) { o.gro = on } }

// WithStrict makes Listen fail rather than go without io_uring with Auto, or
// without GRO unless WithGRO(false) was given.
func WithStrict(on bool) Option { return func(o *options) { o.strict = on } }

// WithBuffers sets how many datagrams or trains the Uring backend takes off
// the socket at a time: a power of two up to uring.MaxBuffers, 32. The default
// is 16. What exceeds it waits in the socket's receive buffer.
func WithBuffers(n int) Option { return func(o *options) { o.buffers = n } }

// WithLogger has a Conn log what it does by itself, which is one thing: that
// io_uring has failed and Auto goes on without it. The default is not to; Reason
// tells as well.
func WithLogger(log *slog.Logger) Option { return func(o *options) { o.log = log } }

// WithModeration sets how long a reader pauses at most while datagrams or
// trains come fast, so that one wake-up serves many of them: up to
// MaxModeration, 0 for never. The default is DefaultModeration. A pause adds up
// to that to the latency of a datagram, but only where two or more come within
// one; a lone datagram is read at once. On systems other than Linux there is none.
func WithModeration(d time.Duration) Option { return func(o *options) { o.moderation = d } }

// WithSteering says whether the kernel may be asked to choose the shard of a
// datagram (see ListenShards). The default is true.
func WithSteering(on bool) Option { return func(o *options) { o.steering = on } }

// WithGeneration is for ListenShards where another process may listen on the same
// address, to take over from this one or to be taken over from. It sets
// SO_REUSEPORT also on a single shard, and has the second byte of each connection
// ID say whose it is: processes with one address need different generations, and
// AddresseeOf tells them apart. The kernel is not asked to steer before
// Shards.Steer.
func WithGeneration(g uint8) Option { return func(o *options) { o.generation = int(g) } }

func newOptions(opts []Option) (options, error) {
	o := options{gro: true, moderation: DefaultModeration, steering: true, generation: noGeneration}
	for _, opt := range opts {
		opt(&o)
	}
	if o.backend < Auto || o.backend > Msg {
		return o, fmt.Errorf("udp: %s is no backend", o.backend)
	}
	if n := o.buffers; n != 0 && (n < 1 || n > uring.MaxBuffers || n&(n-1) != 0) {
		return o, fmt.Errorf("udp: %d buffers; give a power of two from 1 to %d", n, uring.MaxBuffers)
	}
	if o.moderation < 0 || o.moderation > MaxModeration {
		return o, fmt.Errorf("udp: moderation of %v; give 0 to %v", o.moderation, MaxModeration)
	}
	for _, e := range []struct {
		name string
		off  func()
	}{
		{EnvDisableUring, func() { o.uringOff = true }},
		{EnvDisableGRO, func() { o.gro = false }},
		{EnvDisableModeration, func() { o.moderation = 0 }},
		{EnvDisableSteering, func() { o.steering = false }},
	} {
		off, err := envBool(e.name)
		if err != nil {
			return o, err
		}
		if off {
			e.off()
		}
	}
	return o, nil
}

func envBool(name string) (bool, error) {
	v := os.Getenv(name)
	if v == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, fmt.Errorf("udp: environment variable %s=%q is neither true nor false; use 1 or 0", name, v)
	}
	return b, nil
}
