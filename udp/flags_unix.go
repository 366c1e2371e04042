//go:build unix

package udp

import "syscall"

// Flags of a message that was cut off (recvmsg(2)).
const (
	msgTrunc  = syscall.MSG_TRUNC
	msgCtrunc = syscall.MSG_CTRUNC
)
