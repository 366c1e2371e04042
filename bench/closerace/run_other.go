//go:build !linux

package closerace

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"github.com/tailfin-quic/tailfin/bench/proc"
)

// Roles are none.
func Roles(func() (tls.Certificate, error)) map[string]proc.Role { return nil }

// A Bench is not to be had here.
type Bench struct{}

// Open returns errors.ErrUnsupported.
func Open(context.Context, Config) (*Bench, error) {
	return nil, errors.Join(errors.New("bench closerace needs Linux"), errors.ErrUnsupported)
}

// Run returns no rows.
func (b *Bench) Run(context.Context, Cell, func(done, total int, what string)) ([]Row, error) {
	return nil, errors.ErrUnsupported
}

// Expected returns errors.ErrUnsupported.
func (b *Bench) Expected() (time.Duration, error) { return 0, errors.ErrUnsupported }

// Close does nothing.
func (b *Bench) Close() error { return nil }
