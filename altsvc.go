package tailfin

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
)

// altSvcMaxAge is how long a client may remember an Alt-Svc, in seconds: 30 days.
const altSvcMaxAge = 30 * 24 * 60 * 60

// ErrNoAltSvcPort is returned by SetAltSvcHeader if the server listens on nothing
// that has a UDP port.
var ErrNoAltSvcPort = errors.New("tailfin: no port to announce: the server does not listen, or not on UDP")

// SetAltSvcHeader adds to h the Alt-Svc field (RFC 7838 §3) by which a server for
// HTTP/1 or HTTP/2 on the same host tells clients of this one: every UDP port that
// Serve listens on now, or Port.
func (s *Server) SetAltSvcHeader(h http.Header) error {
	ports := []int{s.Port}
	if s.Port == 0 {
		ports = s.ports()
	}
	if len(ports) == 0 {
		return ErrNoAltSvcPort
	}
	var list []string
	for _, port := range ports {
		list = append(list, fmt.Sprintf(`%s=":%d"; ma=%d`, NextProto, port, altSvcMaxAge))
	}
	h.Add("Alt-Svc", strings.Join(list, ", "))
	return nil
}

// ports lists the UDP ports listened on, each once and in order.
func (s *Server) ports() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ports []int
	for ln := range s.listeners {
		if addr, ok := ln.Addr().(*net.UDPAddr); ok {
			ports = append(ports, addr.Port)
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}
