//go:build !linux

package udp

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// A socket is one of package net.
type socket struct {
	conn  *net.UDPConn
	local net.Addr
}

func takeOver(c *net.UDPConn) (*socket, error) { return &socket{c, c.LocalAddr()}, nil }

func (s *socket) keep(*net.UDPConn) {}
func (s *socket) release()          {}
func (s *socket) close() error      { return s.conn.Close() }

func (s *socket) enableGRO() error              { return errors.ErrUnsupported }
func (s *socket) forceReadBuffer(int) error     { return errors.ErrUnsupported }
func (s *socket) setReadBuffer(bytes int) error { return s.conn.SetReadBuffer(bytes) }
func (s *socket) setWriteBuffer(b int) error    { return s.conn.SetWriteBuffer(b) }
func (s *socket) kernelDrops() uint64           { return 0 }
func (s *socket) sendDrops() uint64             { return 0 }

func (s *socket) setWriteDeadline(t time.Time) error { return s.conn.SetWriteDeadline(t) }

func (s *socket) syscallConn() (syscall.RawConn, error) { return s.conn.SyscallConn() }

func (s *socket) writeMsg(p, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	return s.conn.WriteMsgUDP(p, oob, addr)
}
