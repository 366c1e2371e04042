// Package recv measures what it costs to receive UDP datagrams.
//
// A run has two processes of their own: a sender that is open-loop, which means
// that it never waits for the receiver, and a receiver with one of the readers.
// The cost is the processor time of the receiver's process (getrusage(2), user
// and system) over an interval in the middle of the run, divided by the
// datagrams that it read in it. On loopback the kernel's receive path up to the
// socket runs in the sender's system call, and is the sender's cost.
//
// # Readers
//
// All read into what quic-go (v0.65.0) gives to ReadBatch: 8 buffers of 1452
// bytes from a pool and 128 bytes for control messages, with IP_RECVTOS set.
//
//	stock     quic-go on a plain *net.UDPConn: x/net's ReadBatch (recvmmsg), no GRO
//	msg       net.UDPConn.ReadMsgUDPAddrPort, no GRO
//	mmsg      the same as stock; there is no other way without GRO
//	msg-gro   ReadMsgUDPAddrPort with UDP_GRO, trains taken apart
//	mmsg-gro  x/net's ReadBatch with UDP_GRO and 8 buffers of 64 KiB, trains taken apart
//	uring     udp.Conn, backend uring, no GRO
//	uring-gro udp.Conn, backend uring
//	auto      udp.Conn as it is by default
//	paced     udp.Conn, backend mmsg: recvmmsg with the waiting of udp.Conn. What
//	          auto has over this is io_uring; what this has over mmsg-gro is the waiting
//	unpaced   udp.Conn, backend mmsg, without moderation
//	c         a C program with liburing that does what udp.Conn does with uring
//	c-wait    a C program with liburing that waits in its ring (DEFER_TASKRUN),
//	          the receive armed all the time
//
// # Comparison
//
// In a round each reader runs once, in an order that is drawn anew. A ratio is
// that of two runs of one round; what is reported is the median over rounds,
// with the smallest and the largest. Rows whose trains did not come as trains
// are marked and have no ratios.
//
// # Accounting
//
// Each datagram carries its flow and number. What was sent must be what was
// read plus what the kernel says it dropped (SO_MEMINFO), exactly, or the row
// says so and the run fails. The kernel counts a train that it drops as one.
package recv
