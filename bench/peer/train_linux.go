package peer

import (
	"encoding/binary"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// writeTrain sends packets of size bytes each, of which the last may be
// shorter, by one system call (UDP_SEGMENT): nothing gets in between.
func writeTrain(conn *net.UDPConn, to *net.UDPAddr, size int, packets [][]byte) error {
	var train []byte
	for _, p := range packets {
		train = append(train, p...)
	}
	const sizeLen = 2
	oob := make([]byte, unix.CmsgSpace(sizeLen))
	head := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
	head.Level, head.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	head.SetLen(unix.CmsgLen(sizeLen))
	binary.NativeEndian.PutUint16(oob[unix.CmsgLen(0):], uint16(size))
	_, _, err := conn.WriteMsgUDP(train, oob, to)
	return err
}
