package admin

import (
	"errors"
	"net"
	"syscall"
)

// patient has http.Server go on after each error of accept(2) that is of the moment, or of
// the one connection: package net calls only lack of descriptors temporary, and the
// address would not be served any more.
type patient struct{ net.Listener }

func (p patient) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	if err != nil && passes(err) {
		return nil, passing{err}
	}
	return c, err
}

// passes tells errors of accept(2) that say nothing about the next connection: "network
// errors already pending on the new socket", a firewall that forbids it, and no memory.
func passes(err error) bool {
	for _, errno := range []syscall.Errno{
		syscall.ENETDOWN, syscall.EPROTO, syscall.ENOPROTOOPT, syscall.EHOSTDOWN, syscall.EHOSTUNREACH,
		syscall.EOPNOTSUPP, syscall.ENETUNREACH, syscall.ETIMEDOUT, syscall.EPERM, syscall.ENOBUFS, syscall.ENOMEM,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// passing is a net.Error after which http.Server (Go 1.26) accepts again, later each time
// up to a second.
type passing struct{ error }

var _ net.Error = passing{}

func (passing) Timeout() bool   { return false }
func (passing) Temporary() bool { return true }
func (p passing) Unwrap() error { return p.error }
