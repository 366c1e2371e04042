package udp

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// momentary tells the errors of a moment from those that say something about the
// call: lack of memory or of descriptors.
func momentary(err error) bool {
	for _, errno := range []unix.Errno{
		unix.ENOMEM, unix.ENOBUFS, unix.EAGAIN, unix.EMFILE, unix.ENFILE, unix.ENOSPC, unix.EBUSY,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// maxShort is how many times in a row a call may fail for lack of something
// before that is an error, and shortWait how long it waits for it each time: a
// second in all.
const (
	maxShort  = 1000
	shortWait = time.Millisecond
)

// A shortage counts how often in a row a call has failed for lack of something.
type shortage int

// lasts takes the error of a call, and tells whether it is one to give up for.
func (s *shortage) lasts(err error) bool {
	if momentary(err) && *s < maxShort {
		*s++
		return false
	}
	*s = 0
	return true
}

// explain adds to an error of reading, which does not pass, what helps.
func explain(err error) error {
	advice := shortOf(err)
	switch {
	case advice != "":
		advice = fmt.Sprintf("so it was for %v: %s", maxShort*shortWait, advice)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOSYS):
		advice = "permit this system call in the seccomp profile or the security module"
	case errors.Is(err, unix.EBADF), errors.Is(err, unix.EBADFD), errors.Is(err, unix.ENOTSOCK):
		advice = "something else in this process has closed or replaced the descriptor"
	default:
		advice = "close the socket and open it anew"
	}
	return fmt.Errorf("%w; %s", err, advice)
}

// explainOpen adds to the error of a socket that could not be opened what there
// was too little of.
func explainOpen(err error) error {
	if advice := shortOf(err); advice != "" {
		return fmt.Errorf("%w; %s", err, advice)
	}
	return err
}

// shortOf says what there was too little of, and what to do; nothing for any
// other error.
func shortOf(err error) string {
	switch {
	case errors.Is(err, unix.EMFILE):
		return "raise the limit of open files (ulimit -n, LimitNOFILE= of a unit)"
	case errors.Is(err, unix.ENFILE):
		return "raise fs.file-max, or close files elsewhere"
	case errors.Is(err, unix.ENOSPC):
		return "raise fs.epoll.max_user_watches"
	case errors.Is(err, unix.ENOMEM), errors.Is(err, unix.ENOBUFS):
		return "free memory, or raise the memory limit of the service"
	case momentary(err):
		return "the system is short of something; see its log"
	}
	return ""
}
