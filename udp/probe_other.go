//go:build !linux

package udp

import "runtime"

func probeSystem() Report { return Report{OS: runtime.GOOS} }

func probeSocket(*Conn) (gso, ecn bool, readBuffer int) { return false, false, 0 }
