//go:build !linux || nouring || !(386 || amd64 || arm || arm64 || loong64 || mips64le || mipsle || ppc64le || riscv64)

package uring

import (
	"errors"
	"fmt"
)

// errUnsupported is the answer of every constructor here.
var errUnsupported = fmt.Errorf("io_uring is not in this build (needs Linux on a little-endian machine, without the build tag nouring): %w", errors.ErrUnsupported)

// Supported tells whether this build has io_uring at all.
const Supported = false

// A Receiver cannot be made in this build.
type Receiver struct{}

// NewReceiver returns errors.ErrUnsupported.
func NewReceiver(Config) (*Receiver, error) { return nil, errUnsupported }

// Receive returns errors.ErrUnsupported.
func (*Receiver) Receive(int) error { return errUnsupported }

// Next returns nothing.
func (*Receiver) Next() (Datagram, bool) { return Datagram{}, false }

// Recycle does nothing.
func (*Receiver) Recycle(Datagram) {}

// Pending reports 0.
func (*Receiver) Pending() int { return 0 }

// Drained reports true.
func (*Receiver) Drained() bool { return true }

// Stats returns zeros.
func (*Receiver) Stats() Stats { return Stats{} }

// Close does nothing.
func (*Receiver) Close() error { return errUnsupported }

// Probe returns what there is: nothing.
func Probe() Capabilities { return Capabilities{Blocked: errUnsupported} }

// Blocker returns errors.ErrUnsupported.
func Blocker() error { return errUnsupported }
