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

var errLinux = errors.Join(errors.New("bench uploads and its requests need Linux"), errors.ErrUnsupported)

// Run returns errors.ErrUnsupported.
func Run(context.Context, Config) ([]Row, error) { return nil, errLinux }

// Requests returns errors.ErrUnsupported.
func Requests(context.Context, Config) ([]RequestRow, error) { return nil, errLinux }
