//go:build !linux

package servers

import "errors"

func setReusePort(uintptr) error { return errors.ErrUnsupported }
