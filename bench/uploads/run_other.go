//go:build !linux

package uploads

import (
	"context"
	"crypto/tls"
	"errors"

	"github.com/tailfin-quic/tailfin/bench/proc"
)

// Roles are none.
func Roles(func() (tls.Certificate, error), NewHandler) map[string]proc.Role { return nil }

// Run returns errors.ErrUnsupported.
func Run(context.Context, Config) ([]Row, error) {
	return nil, errors.Join(errors.New("bench uploads needs Linux"), errors.ErrUnsupported)
}
