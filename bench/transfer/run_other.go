//go:build !linux

package transfer

import (
	"context"
	"crypto/tls"
	"errors"

	"github.com/tailfin-quic/tailfin/bench/proc"
)

// Roles are none.
func Roles(func() (tls.Certificate, error)) map[string]proc.Role { return nil }

// Run returns errors.ErrUnsupported.
func Run(context.Context, Config) ([]Row, error) {
	return nil, errors.Join(errors.New("bench transfer needs Linux"), errors.ErrUnsupported)
}
