//go:build !linux

// Package proc runs parts of a benchmark as processes of their own, on Linux.
package proc

import (
	"encoding/json"
	"io"
)

// A Role is what a process does.
type Role func(config json.RawMessage, in io.Reader, out io.Writer) error

// Child does nothing: no process is started in a role here.
func Child(...map[string]Role) {}
