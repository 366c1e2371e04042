package udp

import (
	"encoding/binary"
	"net"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxCachedAddrs bounds the addresses that an addrCache keeps.
const maxCachedAddrs = 4096

// An addrCache makes a *net.UDPAddr of what the kernel writes, once for each
// peer: an address a datagram would be garbage for most of what is received.
// The addresses it returns are shared and must not be changed.
type addrCache struct {
	known map[addrKey]*net.UDPAddr
	last  addrKey
	addr  *net.UDPAddr // of last
}

// addrKey is what tells one peer from another.
type addrKey struct {
	ip    [16]byte
	zone  uint32
	port  uint16
	isIP4 bool
}

// lookup returns the address of a struct sockaddr_in or sockaddr_in6, nil if
// it is neither.
func (c *addrCache) lookup(name []byte) *net.UDPAddr {
	key, ok := parseName(name)
	if !ok {
		return nil
	}
	if c.addr != nil && key == c.last {
		return c.addr
	}
	addr := c.known[key]
	if addr == nil {
		if c.known == nil || len(c.known) >= maxCachedAddrs {
			c.known = make(map[addrKey]*net.UDPAddr)
		}
		addr = key.addr()
		c.known[key] = addr
	}
	c.last, c.addr = key, addr
	return addr
}

// parseName reads a socket address (ip(7), ipv6(7)).
func parseName(name []byte) (addrKey, bool) {
	var k addrKey
	if len(name) < 2 {
		return k, false
	}
	switch family := binary.NativeEndian.Uint16(name); {
	case family == unix.AF_INET && len(name) >= int(unsafe.Sizeof(unix.RawSockaddrInet4{})):
		k.isIP4 = true
		k.port = binary.BigEndian.Uint16(name[2:])
		copy(k.ip[:4], name[4:8])
	case family == unix.AF_INET6 && len(name) >= int(unsafe.Sizeof(unix.RawSockaddrInet6{})):
		k.port = binary.BigEndian.Uint16(name[2:])
		copy(k.ip[:], name[8:24])
		k.zone = binary.NativeEndian.Uint32(name[24:])
	default:
		return k, false
	}
	return k, true
}

// addr makes the address as package net does: 4 bytes on an IPv4 socket, else 16.
func (k addrKey) addr() *net.UDPAddr {
	a := &net.UDPAddr{Port: int(k.port)}
	if k.isIP4 {
		a.IP = append(net.IP(nil), k.ip[:4]...)
		return a
	}
	a.IP = append(net.IP(nil), k.ip[:]...)
	if k.zone != 0 {
		a.Zone = zoneName(k.zone)
	}
	return a
}

// zoneName is the name of an interface, or its number where it has none.
func zoneName(index uint32) string {
	if i, err := net.InterfaceByIndex(int(index)); err == nil {
		return i.Name
	}
	return strconv.FormatUint(uint64(index), 10)
}
