//go:build !linux

package udp

// momentary tells the errors of a moment from those that say something about
// io_uring, which there is none of.
func momentary(error) bool { return false }

// explainOpen adds to an error what helps.
func explainOpen(err error) error { return err }
