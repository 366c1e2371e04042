package config

import (
	"errors"
	"fmt"
	"strings"
)

// An Origin says where the value of an option came from.
type Origin struct {
	File string // of the configuration, or empty
	Line int    // in File
	Env  string // environment variable, or empty
	Flag bool   // the command line
}

// describe names an option and its value as whoever has set them wrote them.
func (o Origin) describe(option, value string) string {
	switch {
	case o.File != "":
		where := fmt.Sprintf("%s:%d", o.File, o.Line)
		for _, part := range []string{option, value} {
			if part != "" {
				where += ": " + part
			}
		}
		return where
	case o.Env != "":
		return o.Env + "=" + value
	}
	return strings.TrimSpace("--" + option + " " + value)
}

// An Error is an option that cannot be used: where it was set, what to, why not,
// and what to do instead.
type Error struct {
	Origin Origin
	Option string // name of the flag without dashes, and key of the file
	Value  string
	Err    error
	Remedy string
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%s: %v", e.Origin.describe(e.Option, e.Value), e.Err)
	if e.Remedy != "" {
		text += "\n  " + e.Remedy
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// join is errors.Join, with each error on lines of its own.
func join(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}
