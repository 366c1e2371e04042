//go:build !unix

package udp

// Flags of a message that was cut off, with the values of Linux: what they are
// elsewhere package syscall does not say.
const (
	msgTrunc  = 0x20
	msgCtrunc = 0x08
)
