package uring

// Config says how large a Receiver is. The zero value is for trains (UDP_GRO).
type Config struct {
	// Buffers is how many datagrams or trains can wait to be read: a power of
	// two up to 32768. Default 64.
	Buffers int
	// Payload is the longest datagram or train, in bytes. Default 65535, which
	// is the longest there is. What is longer is dropped and counted.
	Payload int
	// Control is the room for control messages of one datagram, in bytes.
	// Default 256; what does not fit drops the datagram, counted.
	Control int
	// Completions, if set, is the size of the completion ring. It is for tests:
	// the default holds whatever the buffers can make happen.
	Completions int
}

// Defaults of a Config.
const (
	DefaultBuffers = 64
	DefaultPayload = 65535
	DefaultControl = 256
)

func (c Config) withDefaults() Config {
	if c.Buffers == 0 {
		c.Buffers = DefaultBuffers
	}
	if c.Payload == 0 {
		c.Payload = DefaultPayload
	}
	if c.Control == 0 {
		c.Control = DefaultControl
	}
	return c
}

// completions is the size of the completion ring: every buffer and every
// request of our own can be a completion at the same time.
func (c Config) completions() int {
	if c.Completions > 0 {
		return c.Completions
	}
	return 2*c.Buffers + 8
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
	Rearms    uint64 // receives that were armed, the first included
	NoBuffers uint64 // receives that ended because every buffer was in use
	Overflows uint64 // waits that found the completion ring full
	Truncated uint64 // datagrams dropped because they or their control data did not fit
	Failed    uint64 // receives that ended with another error
}

// MinKernel is the first Linux whose io_uring has all that a Receiver needs:
// IORING_SETUP_DEFER_TASKRUN, on top of multishot recvmsg (6.0).
const MinKernel = "6.1"

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
