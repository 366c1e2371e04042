//go:build !linux

package netlab

import (
	"context"
	"errors"
	"fmt"

	"github.com/tailfin-quic/tailfin/bench/proc"
)

func build(context.Context, Profile) (*Lab, error) {
	return nil, fmt.Errorf("network namespaces are Linux's: %w", errors.ErrUnsupported)
}

// Do runs f in the host's network namespace: that of this process, where there are no others.
func (h Host) Do(f func() error) error { return f() }

// Roles are none.
func Roles() map[string]proc.Role { return nil }
