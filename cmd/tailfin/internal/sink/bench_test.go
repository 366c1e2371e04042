package sink

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// cpuTime is what the process has used so far, in seconds.
func cpuTime(b *testing.B) float64 {
	b.Helper()
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		b.Fatal(err)
	}
	return float64(unix.TimevalToNsec(ru.Utime)+unix.TimevalToNsec(ru.Stime)) / 1e9
}

// BenchmarkDirStore stores small uploads from 64 goroutines at once, as many
// connections do. cpu-us/op is the processor time of the process, of which most
// is the kernel's. `strace -c -f` over it counts its system calls.
func BenchmarkDirStore(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dkB", size>>10), func(b *testing.B) {
			d, err := OpenDir(b.TempDir(), Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer d.Close()
			body := bytes.Repeat([]byte{'x'}, size)
			var next atomic.Int64
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.SetParallelism(32) // times GOMAXPROCS
			start := cpuTime(b)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					// Names come again, as they do for whoever replaces what is stored.
					name := fmt.Sprintf("upload-%d", next.Add(1)%4096)
					if _, err := d.Store(b.Context(), Upload{Name: name, Length: int64(size)}, bytes.NewReader(body)); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric((cpuTime(b)-start)*1e6/float64(b.N), "cpu-us/op")
		})
	}
}
