package uring

import "fmt"

// Config says how large a Receiver is. The zero value is for trains (UDP_GRO).
type Config struct {
	// Buffers is how many datagrams or trains one Receive brings at most: a
	// power of two up to MaxBuffers. Default DefaultBuffers. Their memory is
	// used in turn, so that many of them leave the processor's caches.
	Buffers int
	// Payload is the longest datagram or train, in bytes. Default 65535, which
	// is the longest there is. What is longer is dropped and counted.
	Payload int
	// Control is the room for control messages of one datagram, in bytes.
	// Default 256; what does not fit drops the datagram, counted.
	Control int
	// Completions, if set, is the size of the completion ring. It is for tests:
	// the default holds whatever one Receive can make happen.
	Completions int
}

// Limits and defaults of a Config.
const (
	DefaultBuffers = 16
	DefaultPayload = 65535
	DefaultControl = 256
	// MaxBuffers keeps a receive within one system call: after 32 datagrams the
	// kernel would go on later, on a thread and at a time of its choosing
	// (MULTISHOT_MAX_RETRY in io_uring/net.c, Linux 6.4).
	MaxBuffers = 32
)

// withDefaults fills in what is not set, and refuses what cannot be.
func (c Config) withDefaults() (Config, error) {
	if c.Buffers == 0 {
		c.Buffers = DefaultBuffers
	}
	if c.Payload == 0 {
		c.Payload = DefaultPayload
	}
	if c.Control == 0 {
		c.Control = DefaultControl
	}
	if c.Payload < 0 || c.Payload > DefaultPayload || c.Control < 0 || c.Control > maxControl {
		return c, fmt.Errorf("payload %d, control %d: give at most %d and %d bytes", c.Payload, c.Control, DefaultPayload, maxControl)
	}
	return c, nil
}

// maxControl is more than any set of options makes of one datagram.
const maxControl = 1 << 16

// completions is the size of the completion ring: each buffer can be one, and
// one more ends the receive.
func (c Config) completions() int {
	if c.Completions > 0 {
		return c.Completions
	}
	return 2 * (c.Buffers + 1)
}

// A Datagram is one received message: a datagram, or with UDP_GRO a train.
// Its slices are memory of the Receiver until Recycle.
type Datagram struct {
	Name    []byte // the peer's struct sockaddr_in or sockaddr_in6
	Control []byte // control messages, as recvmsg(2) gives them
	Payload []byte

	id uint16
}

// Stats counts what a Receiver did. All counts grow only.
type Stats struct {
	Enters    uint64 // io_uring_enter calls
	Rearms    uint64 // multishot receives that were started
	NoBuffers uint64 // receives that ended because every buffer was in use
	Overflows uint64 // receives that overran the completion ring
	Truncated uint64 // datagrams dropped because they or their control data did not fit, or the kernel's account of them is wrong
	Failed    uint64 // receives that ended with an error of the socket
}

// MinKernel is the first Linux that a Receiver is for. Multishot recvmsg is of
// 6.0, which had no long-term support and was not tried.
const MinKernel = "6.1"

// Capabilities says what this machine has of what a Receiver needs, in the
// order in which it is needed.
type Capabilities struct {
	Supported  bool   // by this build
	Kernel     string // release, empty if it cannot be told
	Setup      bool   // io_uring_setup(2) works
	BufferRing bool   // io_uring_register_buf_ring(3) works (5.19)
	Multishot  bool   // a multishot recvmsg brings what was sent (6.0)
	Blocked    error  // why the first that is false is false: a *BlockedError if that lasts; nil if none is
}

// A BlockedError says that io_uring cannot be used here, why, and what would
// change it. Lack of memory or of descriptors is not among the reasons: that
// is an error of the moment.
type BlockedError struct {
	Reason string
	Remedy string
	Err    error
}

func (e *BlockedError) Error() string { return e.Reason }

func (e *BlockedError) Unwrap() error { return e.Err }
