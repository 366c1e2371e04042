//go:build !linux

package soak

import (
	"context"
	"crypto/tls"
	"errors"

	"github.com/tailfin-quic/tailfin/bench/proc"
)

// Roles are none.
func Roles() map[string]proc.Role { return nil }

// Run returns errors.ErrUnsupported.
func Run(context.Context, Config, func() (tls.Certificate, error)) ([]Row, error) {
	return nil, errors.Join(errors.New("bench soak needs Linux"), errors.ErrUnsupported)
}
