package udp

import (
	"errors"
	"fmt"

	"github.com/tailfin-quic/tailfin/uring"
)

// choose picks the backend and sets the Conn up for it.
func (c *Conn) choose(o options) error {
	groNote, err := c.setupGRO(o)
	if err != nil {
		return err
	}
	backend, reason, err := pick(o)
	if err != nil {
		return err
	}
	c.way.Store(&way{backend: backend, reason: reason + groNote})
	r, err := newReader(c, backend, o)
	if err != nil {
		return fmt.Errorf("udp: set up backend %s: %w", backend, withRemedy(err))
	}
	c.main = newLane(r, c)
	return nil
}

// A way is how a Conn reads, and why so.
type way struct {
	backend Backend
	reason  string
}

// loseRing notes that the ring has failed and Auto goes on without it.
func (c *Conn) loseRing(err error) {
	c.way.Store(&way{backend: Mmsg, reason: fmt.Sprintf("io_uring failed: %v; using recvmmsg", err)})
	if c.log != nil {
		c.log.Warn("io_uring failed; receiving goes on by recvmmsg", "listen", c.LocalAddr().String(), "err", err)
	}
}

// setupGRO turns trains on if they are wanted, and says what came of it.
func (c *Conn) setupGRO(o options) (note string, err error) {
	if !o.gro {
		return "", nil
	}
	if err := c.sock.enableGRO(); err != nil {
		if o.strict {
			return "", fmt.Errorf("udp: no GRO: %w; use Linux 5.0 or later, or WithGRO(false)", err)
		}
		return fmt.Sprintf("; without GRO: %v", err), nil
	}
	c.gro = true
	return "", nil
}

// pick decides which backend to use, and why.
func pick(o options) (Backend, string, error) {
	switch o.backend {
	case Uring:
		if o.uringOff {
			return 0, "", fmt.Errorf("udp: backend uring was asked for, but %s is set; unset it, or use auto", EnvDisableUring)
		}
		if err := uringWorks(); err != nil {
			return 0, "", fmt.Errorf("udp: backend uring does not work here: %w", withRemedy(err))
		}
		return Uring, "asked for", nil
	case Mmsg:
		if !haveMmsg {
			return 0, "", fmt.Errorf("udp: recvmmsg is of Linux; use backend msg: %w", errors.ErrUnsupported)
		}
		return Mmsg, "asked for", nil
	case Msg:
		return Msg, "asked for", nil
	}
	fallback, way := Msg, "recvmsg"
	if haveMmsg {
		fallback, way = Mmsg, "recvmmsg"
	}
	if o.uringOff {
		if o.strict {
			return 0, "", fmt.Errorf("udp: strict, but %s keeps io_uring off; unset it", EnvDisableUring)
		}
		return fallback, fmt.Sprintf("%s is set; using %s", EnvDisableUring, way), nil
	}
	err := uringWorks()
	switch {
	case err == nil:
		return Uring, "io_uring works: self-test passed; " + way + " while idle", nil
	case o.strict:
		return 0, "", fmt.Errorf("udp: strict, but io_uring does not work here: %w", withRemedy(err))
	case momentary(err):
		// Lack of memory or descriptors would hit any backend, and passes.
		return 0, "", fmt.Errorf("udp: io_uring: %w", err)
	}
	return fallback, fmt.Sprintf("%v; using %s", err, way), nil
}

// withRemedy adds to an error what would help.
func withRemedy(err error) error {
	var blocked *uring.BlockedError
	if errors.As(err, &blocked) && blocked.Remedy != "" {
		return fmt.Errorf("%w; %s", err, blocked.Remedy)
	}
	return err
}

// errSelfTest marks a ring that can be set up and does not receive right.
var errSelfTest = errors.New("io_uring self-test failed")
