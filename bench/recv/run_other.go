//go:build !linux

package recv

import (
	"context"
	"errors"
)

// Child does nothing.
func Child() {}

// Run returns errors.ErrUnsupported.
func Run(context.Context, Config) ([]Row, error) {
	return nil, errors.Join(errors.New("bench recv needs Linux"), errors.ErrUnsupported)
}
