//go:build !linux

package udp

import (
	"errors"
	"os"
	"syscall"
)

const haveShards = false

func shareable(string, string, syscall.RawConn) error { return errors.ErrUnsupported }

// A socketMap is of Linux.
type socketMap struct{}

func (*socketMap) close() {}

func (*Shards) attach([]Group) error { return errors.ErrUnsupported }

func (*Shards) group() (*os.File, error) { return nil, errors.ErrUnsupported }
