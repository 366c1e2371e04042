//go:build !linux

package idle

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"github.com/tailfin-quic/tailfin/bench/proc"
)

// idleTimeout is that of both sides.
const idleTimeout = time.Hour

// Roles are none.
func Roles(func() (tls.Certificate, error)) map[string]proc.Role { return nil }

// Run returns errors.ErrUnsupported.
func Run(context.Context, Config) ([]Row, error) {
	return nil, errors.Join(errors.New("bench idle needs Linux"), errors.ErrUnsupported)
}
