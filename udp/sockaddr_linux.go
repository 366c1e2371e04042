package udp

import (
	"encoding/binary"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// putSockaddr writes an address as sendmsg(2) wants it for a socket of the
// given family, and returns its length.
//
//	struct sockaddr_in  { u16 family; be16 port; u8 addr[4]; u8 zero[8]; }       (ip(7))
//	struct sockaddr_in6 { u16 family; be16 port; be32 flowinfo; u8 addr[16]; u32 scope; } (ipv6(7))
func putSockaddr(b *[unix.SizeofSockaddrInet6]byte, family int, addr *net.UDPAddr) (uint32, error) {
	clear(b[:])
	binary.NativeEndian.PutUint16(b[0:], uint16(family))
	binary.BigEndian.PutUint16(b[2:], uint16(addr.Port))
	if addr.Port < 0 || addr.Port > 0xffff {
		return 0, &net.AddrError{Err: "invalid port", Addr: strconv.Itoa(addr.Port)}
	}
	v4 := addr.IP.To4()
	switch {
	case family == unix.AF_INET && v4 != nil:
		copy(b[4:8], v4)
		return unix.SizeofSockaddrInet4, nil
	case family == unix.AF_INET && len(addr.IP) == 0:
		return unix.SizeofSockaddrInet4, nil // this host
	case family == unix.AF_INET6 && (len(addr.IP) == 0 || addr.IP.Equal(net.IPv4zero)):
		return unix.SizeofSockaddrInet6, nil // this host
	case family == unix.AF_INET6 && v4 != nil:
		b[18], b[19] = 0xff, 0xff // ::ffff:a.b.c.d (RFC 4291 §2.5.5.2)
		copy(b[20:24], v4)
		return unix.SizeofSockaddrInet6, nil
	case family == unix.AF_INET6 && len(addr.IP) == net.IPv6len:
		copy(b[8:24], addr.IP)
		binary.NativeEndian.PutUint32(b[24:], zoneIndex(addr.Zone))
		return unix.SizeofSockaddrInet6, nil
	case family == unix.AF_INET:
		return 0, &net.AddrError{Err: "non-IPv4 address", Addr: addr.IP.String()}
	}
	return 0, &net.AddrError{Err: "non-IPv6 address", Addr: addr.IP.String()}
}

// A zone is what was found of an interface's name.
type zone struct {
	name  string
	index uint32
	at    time.Time
}

// lastZone is the zone that was looked up last: a program sends to few, and a
// look-up asks the kernel for all interfaces.
var lastZone atomic.Pointer[zone]

// zoneTrusted is for how long a zone is not looked up again, as in package net.
const zoneTrusted = time.Minute

// zoneIndex is the number of the interface that a zone names, 0 for none.
func zoneIndex(name string) uint32 {
	if name == "" {
		return 0
	}
	if z := lastZone.Load(); z != nil && z.name == name && time.Since(z.at) < zoneTrusted {
		return z.index
	}
	z := &zone{name: name, at: time.Now()}
	if i, err := net.InterfaceByName(name); err == nil {
		z.index = uint32(i.Index)
	} else if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		z.index = uint32(n)
	}
	lastZone.Store(z)
	return z.index
}
