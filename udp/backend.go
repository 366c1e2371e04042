package udp

import "fmt"

// A Backend is a way to read datagrams.
type Backend int

const (
	// Auto is Uring, with recvmmsg while the socket is idle, where a self-test
	// proves that io_uring works, and else what the system has; Conn.Reason says
	// which and why.
	Auto Backend = iota
	// Uring is multishot recvmsg on io_uring (Linux 6.1), and nothing else. Asked
	// for by name it is an error where it does not work.
	Uring
	// Mmsg is recvmmsg(2), on Linux.
	Mmsg
	// Msg is recvmsg(2), on every Unix.
	Msg
)

var backendNames = [...]string{Auto: "auto", Uring: "uring", Mmsg: "mmsg", Msg: "msg"}

// String returns the name that ParseBackend takes.
func (b Backend) String() string {
	if b < 0 || int(b) >= len(backendNames) {
		return fmt.Sprintf("backend(%d)", int(b))
	}
	return backendNames[b]
}

// ParseBackend returns the backend of a name: auto, uring, mmsg or msg.
func ParseBackend(name string) (Backend, error) {
	for b, n := range backendNames {
		if n == name {
			return Backend(b), nil
		}
	}
	return Auto, fmt.Errorf("udp: no backend %q; there are auto, uring, mmsg and msg", name)
}

// MarshalText returns the name.
func (b Backend) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText takes what ParseBackend takes.
func (b *Backend) UnmarshalText(text []byte) error {
	parsed, err := ParseBackend(string(text))
	if err != nil {
		return err
	}
	*b = parsed
	return nil
}
