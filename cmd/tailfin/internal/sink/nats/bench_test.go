package natssink

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
)

// BenchmarkStore stores from 64 clients at a time, into a server in the same
// process.
func BenchmarkStore(b *testing.B) {
	for _, size := range []int{1 << 10, 100 << 10, 4 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			s := open(b, "nats://"+inProcess(b, nil)+"/UPLOADS?create=1", Options{})
			body := random(size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.SetParallelism(32) // times GOMAXPROCS
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := s.Store(b.Context(), sink.Upload{Name: "report", Length: int64(size)}, bytes.NewReader(body)); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
