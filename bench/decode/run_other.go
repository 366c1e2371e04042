//go:build !linux

package decode

import (
	"context"
	"errors"

	"github.com/tailfin-quic/tailfin/bench/proc"
)

// Roles are none.
func Roles() map[string]proc.Role { return nil }

// Run returns errors.ErrUnsupported.
func Run(context.Context, Config) ([]Row, error) {
	return nil, errors.Join(errors.New("bench decode needs Linux"), errors.ErrUnsupported)
}
