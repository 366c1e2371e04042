package certs

import "fmt"

// An OptionError is an option that cannot be used: which, why, and what to do
// instead. Option is the name of a flag without its dashes.
type OptionError struct {
	Option string
	Value  string
	Err    error
	Remedy string
}

func (e *OptionError) Error() string {
	return fmt.Sprintf("%s %s: %v; %s", e.Option, e.Value, e.Err, e.Remedy)
}

func (e *OptionError) Unwrap() error { return e.Err }
