//go:build !linux

package udp

import (
	"errors"
	"syscall"
)

const haveShards = false

func reusePort(string, string, syscall.RawConn) error { return errors.ErrUnsupported }

func steer([]*Conn) error { return errors.ErrUnsupported }
