//go:build !linux || nouring || !(386 || amd64 || arm || arm64 || loong64 || mips64le || mipsle || ppc64le || riscv64)

package uring

import (
	"errors"
	"fmt"
	"time"
)

// errUnsupported is the answer of every constructor here.
var errUnsupported = fmt.Errorf("io_uring is not in this build (needs Linux on a little-endian machine, without the build tag nouring): %w", errors.ErrUnsupported)

// Supported tells whether this build has io_uring at all.
const Supported = false

// A Receiver cannot be made in this build.
type Receiver struct{}

// NewReceiver returns errors.ErrUnsupported.
func NewReceiver(int, Config) (*Receiver, error) { return nil, errUnsupported }

// Own returns errors.ErrUnsupported.
func (*Receiver) Own() error { return errUnsupported }

// Owner reports false.
func (*Receiver) Owner() bool { return false }

// Owned reports false.
func (*Receiver) Owned() bool { return false }

// Orphaned reports false.
func (*Receiver) Orphaned() bool { return false }

// Wait returns errors.ErrUnsupported.
func (*Receiver) Wait(time.Duration) error { return errUnsupported }

// Rest does nothing.
func (*Receiver) Rest() {}

// Ready reports false.
func (*Receiver) Ready() bool { return false }

// Wake does nothing.
func (*Receiver) Wake() {}

// Next returns nothing.
func (*Receiver) Next() (Datagram, bool) { return Datagram{}, false }

// Recycle does nothing.
func (*Receiver) Recycle(Datagram) {}

// Stats returns zeros.
func (*Receiver) Stats() Stats { return Stats{} }

// Close does nothing.
func (*Receiver) Close() error { return errUnsupported }

// Abandon does nothing.
func (*Receiver) Abandon() error { return errUnsupported }

// Blocker returns errors.ErrUnsupported.
func Blocker() error { return errUnsupported }
