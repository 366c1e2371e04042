// Package udp reads UDP sockets in batches, by io_uring where the kernel
// permits it, with the kernel joining datagrams to trains (UDP_GRO).
//
// A Conn is made by Listen and given to quic-go:
//
//	conn, err := udp.Listen("udp", ":4433")
//	…
//	tr := &quic.Transport{Conn: conn}
//
// quic-go (v0.65.0) finds ReadBatch and uses it, WriteMsgUDP for GSO, and
// SyscallConn to ask for ECN and packet info. It does not turn GRO on itself;
// the Conn does, and takes the trains apart again:
//
//	kernel     ┌────────────── train ──────────────┐
//	           │ 1252 B │ 1252 B │ 1252 B │  400 B │  UDP_GRO: 1252
//	           └───┬────────┬────────┬────────┬────┘
//	ReadBatch     ms[0]    ms[1]    ms[2]    ms[3]    each with address, ECN
//	                                                  and packet info of the train
//
// A train has up to 64 datagrams and a batch of quic-go's 8 messages: the rest
// waits for the next call, in order.
//
// # Backends
//
// Uring is multishot recvmsg into a provided-buffer ring (package uring, Linux
// 6.1): one io_uring_enter takes up to 16 datagrams or trains off the socket and
// tells that the socket is empty. Mmsg is recvmmsg(2), Msg is recvmsg(2). On
// systems other than Linux there is Msg alone, without GRO.
//
// Auto reads through the ring while the socket is busy and by recvmmsg while it
// is idle, if a self-test on a private loopback socket receives what it sent. It
// says why not otherwise: blocked by the sysctl kernel.io_uring_disabled (6.6),
// by a seccomp profile (Docker's and containerd's default ones), or by the age
// of the kernel. Lack of memory or descriptors is an error and no reason to fall
// back. A ring that fails later is left behind, with the datagrams still in the
// socket, and Conn.Reason tells.
//
// # What fails, and what passes
//
// A read that is short of memory or descriptors waits a millisecond and is tried
// again, for a second in all. ICMP errors are counted and passed over, and a call
// that a signal interrupts is repeated, up to 64 in a row. Whatever else a system
// call says ends the read with an error that names the call and what helps, and
// that is never one that net.Error calls temporary: quic-go (v0.65.0) would read
// again at once, for good. A write that the kernel lacks memory for is lost as if
// on the way, and is an error after 64 in a row.
//
// # Waiting
//
// How a reader waits decides what receiving costs, more than how it reads:
//
//   - No call here blocks, and none is announced to Go's scheduler. The runtime
//     would wake its monitor thread for each (Go 1.26).
//   - The socket is not in Go's network poller but in an epoll instance of the
//     Conn's own, which is in Go's poller. Otherwise each datagram would wake
//     the thread that waits there, also when nobody wants to be woken.
//   - While datagrams come fast the reader pauses by a timer (WithModeration)
//     and takes all that has gathered, as network cards moderate interrupts. On
//     a virtual machine a wake-up costs 5 to 10 µs, a datagram of a train 0.15.
//
// What was tried, in nanoseconds of processor time a datagram (`tailfin bench
// recv`, medians of five rounds, receiver pinned, two cores of an AMD EPYC
// virtual machine, Linux 6.18, Go 1.26, loopback, 1252 bytes):
//
//	                                         1 segment              16      44
//	                                    20k/s  100k/s    max       max     max
//	quic-go on a *net.UDPConn           16950    6023   3059       929     944
//	recvmmsg and GRO in Go's poller     17055    6045   2978       357     213
//	the same, unannounced, own epoll    13326    4248   3078       316     177   WithModeration(0)
//	ring owned by the reader's thread   11834    3753   2554       288     172
//	recvmmsg, moderated                  9313    2408   1517       174     123   Mmsg
//	recvmmsg idle, ring busy, moderated  9999    2601   1420       171     124   Auto
//	C: ring armed, waiting in it         9613    3309   2033       215     124
//	C: what Auto does                    8817    2322   1090       146     112
//
// The ring that a locked thread owns (DEFER_TASKRUN, an armed multishot receive)
// was Tailfin's first reader and is gone: it ties quic-go's reader to a thread,
// so that each turn between it and a connection is a switch of threads, and loses
// wherever wake-ups can be spared. A minimum wait in the kernel (6.12) did for it
// in C what moderation does here, within noise (140 to 159 ns at 16 segments, 102
// at 44), and keeps its other faults. A ring whose descriptor is in Go's poller
// (COOP_TASKRUN) wakes one thread for the completion and one for the reader; it
// cost half as much again as the owned ring when it was tried before. Spinning
// instead of sleeping takes a whole processor at any rate; who wants the kernel to
// poll a network card sets SO_BUSY_POLL through SyscallConn.
//
// Sends are one sendmsg(2) each, unannounced too. Queued for the reader's next
// io_uring_enter, eight at a time, 60-byte datagrams cost 2.6 to 3.3 µs instead of
// 3.1 to 3.6: at best 2 percent of a receiver's processor time, for errors that
// come too late for quic-go's path MTU discovery (EMSGSIZE) and GSO fallback (EIO).
//
// # What is dropped
//
// A datagram that does not fit the reader's message, or a train or its control
// messages cut off by the kernel, is dropped and counted, never delivered cut:
// quic-go does not look at MSG_TRUNC. Datagrams that find the socket's receive
// buffer full are dropped by the kernel and counted by it (Stats.KernelDrops).
package udp
