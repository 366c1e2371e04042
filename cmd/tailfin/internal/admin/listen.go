package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// socketMode lets the daemon's user and group in.
const socketMode = 0o660

// loopback is the host of an address without one: all addresses have to be asked for.
const loopback = "127.0.0.1"

// Listen opens the address that --admin names: HOST:PORT, :PORT on loopback, or the
// path of a Unix socket, absolute or after "unix:". A socket that an ended process has
// left behind is replaced. The error of an address that another process listens on is
// syscall.EADDRINUSE.
func Listen(address string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return listenUnix(path)
	}
	if filepath.IsAbs(address) {
		return listenUnix(address)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("admin address %q is neither HOST:PORT nor the path of a Unix socket; use for example 127.0.0.1:9433 or unix:/run/tailfin/admin.sock", address)
	}
	if host == "" {
		address = net.JoinHostPort(loopback, port)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("admin address %s: %w; give a free TCP port of this machine, `ss -tlpn` shows who has a port", address, err)
	}
	return ln, nil
}

func listenUnix(path string) (net.Listener, error) {
	if path == "" {
		return nil, errors.New("admin address unix: names no path; use for example unix:/run/tailfin/admin.sock")
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		c, err := net.Dial("unix", path)
		switch {
		case err == nil:
			_ = c.Close()
			return nil, fmt.Errorf("admin socket %s: %w by another process; stop it or name another path", path, syscall.EADDRINUSE)
		case errors.Is(err, syscall.ECONNREFUSED):
			_ = os.Remove(path) // nobody listens: its process has ended
		}
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("admin socket: %w; name a path in a folder that exists and may be written", err)
	}
	if err := os.Chmod(path, socketMode); err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	return ln, nil
}

// isLocal tells whether only this machine can reach an address.
func isLocal(addr net.Addr) bool {
	switch addr := addr.(type) {
	case *net.UnixAddr:
		return true
	case *net.TCPAddr:
		return addr.IP.IsLoopback()
	}
	return false
}
