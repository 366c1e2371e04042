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
// # What is dropped
//
// A datagram that does not fit the reader's message, or a train or its control
// messages cut off by the kernel, is dropped and counted, never delivered cut:
// quic-go does not look at MSG_TRUNC. Datagrams that find the socket's receive
// buffer full are dropped by the kernel and counted by it (Stats.KernelDrops).
package udp
