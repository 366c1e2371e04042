//go:build !linux

package takeover

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

const supported = false

const sendFlags = unix.MSG_DONTWAIT

type peer struct{ pid, uid int }

func peerOf(syscall.RawConn) (peer, error) { return peer{}, errors.ErrUnsupported }

func growBuffer(syscall.RawConn, int) {}

func listenAgain(syscall.RawConn) error { return errors.ErrUnsupported }
