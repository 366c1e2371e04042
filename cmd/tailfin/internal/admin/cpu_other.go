//go:build !unix

package admin

// cpuSeconds is not known here.
func cpuSeconds() float64 { return 0 }
