package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set by the linker in releases, see the Makefile.
var version = "devel"

type versionCmd struct{}

// Run prints our version and those of what the datagrams pass through.
func (versionCmd) Run() error { //nolint:unparam // the signature that kong calls
	fmt.Printf("tailfin %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	for _, dep := range info.Deps {
		switch dep.Path {
		case "github.com/quic-go/quic-go", "github.com/quic-go/qpack", "github.com/iceber/iouring-go":
			fmt.Printf("  %s %s\n", dep.Path, dep.Version)
		}
	}
	return nil
}
