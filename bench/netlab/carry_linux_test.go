package netlab

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkCarry has a path carry UDP trains of 10 datagrams at a rate, and says what
// arrived and what the wire's process used:
//
//	go test -run - -bench Carry -benchtime 300000x ./bench/netlab
func BenchmarkCarry(b *testing.B) {
	const (
		size  = 1252
		train = 10
	)
	unlossy := Profile{Name: "wire", Emulator: Wire, Process: true}
	far := profiles[WAN]
	far.Process = true
	for _, p := range []Profile{profiles[Veth], profiles[VethCut], unlossy, far} {
		for _, pps := range []int{50_000, 90_000, 200_000} {
			b.Run(fmt.Sprintf("path=%s/pps=%d", p.Name, pps), func(b *testing.B) {
				lab, err := Build(context.Background(), p)
				if err != nil {
					b.Skip(err)
				}
				defer lab.Close()
				receiver, sender := ends(b, lab)
				option(b, receiver, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
				option(b, sender, unix.IPPROTO_UDP, unix.UDP_SEGMENT, size)
				var got, reads atomic.Int64
				done := make(chan struct{})
				go func() {
					defer close(done)
					buf, oob := make([]byte, 1<<16), make([]byte, 64)
					for {
						n, _, _, _, err := receiver.ReadMsgUDPAddrPort(buf, oob)
						if err != nil {
							return
						}
						got.Add(int64((n + size - 1) / size))
						reads.Add(1)
					}
				}()
				before, err := lab.Stats()
				if err != nil {
					b.Fatal(err)
				}
				to, bytes, sent := addrOf(receiver), make([]byte, size*train), 0
				b.ResetTimer()
				start := time.Now()
				for sent < b.N {
					// Open loop: so many as are due by now, a train at a time.
					for due := int(time.Since(start).Seconds() * float64(pps)); sent < min(due, b.N); sent += train {
						if _, err := sender.WriteToUDPAddrPort(bytes, to); err != nil {
							b.Fatal(err)
						}
					}
					time.Sleep(50 * time.Microsecond)
				}
				took := time.Since(start).Seconds()
				b.StopTimer()
				time.Sleep(300 * time.Millisecond)
				stats, err := lab.Stats()
				if err != nil {
					b.Fatal(err)
				}
				receiver.Close()
				<-done
				f := stats.Forward
				b.ReportMetric(float64(sent)/took, "sent/s")
				b.ReportMetric(100*float64(got.Load())/float64(sent), "%arrived")
				b.ReportMetric(float64(got.Load())/float64(max(1, reads.Load())), "datagrams/read")
				b.ReportMetric(float64(f.Lost), "lost")
				b.ReportMetric(float64(f.Dropped), "dropped")
				b.ReportMetric(float64(f.Overflowed), "overflowed")
				if stats.CPU > 0 {
					b.ReportMetric((stats.CPU-before.CPU)/float64(sent)*1e9, "wire-cpu-ns/datagram")
				}
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
