// Package recv measures what it costs to receive UDP datagrams.
//
// A run has two processes of their own: a sender that is open-loop, which means
// that it never waits for the receiver, and a receiver with one of the readers.
// The cost is the processor time of the receiver's process (getrusage(2), user
// and system) over an interval in the middle of the run, divided by the
// datagrams that it read in it. What is before the interval, as its start and the
// warm-up, is in none of the figures but those of the accounts. The kernel's
// receive path up to the socket runs in the sender's system call, and is the
// sender's cost.
//
// # Readers
//
// All read into what quic-go (v0.65.0) gives to ReadBatch: 8 buffers of 1452
// bytes from a pool and 128 bytes for control messages, with IP_RECVTOS set. All
// ask for the same receive buffer, and a row whose reader got a smaller one than
// others is not valid.
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
//	c-mmsg    a C program with recvmmsg, UDP_GRO and 8 buffers of 64 KiB, which
//	          waits in the call
//	iperf3    iperf3, see below
//
// # Sending
//
// A train is what the sender hands to the kernel in one call with UDP_SEGMENT
// (GSO); the flows take turns by trains. A cell of one segment is without GSO: each
// datagram is a call. At a rate, trains are sent at absolute times, and one that
// was late is sent at once, so that what was offered does not depend on how the
// machine served the sender. By how much it was late is in the row
// (sender_late_p99_us), since the latency begins at the send and not at the time
// that was due. The sender waits for its ticks by spinning; sender_cpu_utilization
// is the share of its time in which it was at work instead. Without a rate it is
// processor time by time: if it is near 1 and nothing was lost, the sender was the
// limit, and if it is far below, the machine had other things to do. It sends until
// the receiver has measured.
//
// At a rate an interval has 3000 datagrams at least, and is longer than asked for
// where that takes longer. The latency is of the oldest datagram of each batch that
// a reader returns, of those in the interval; taking it is part of the cost there,
// and is somewhat cheaper in C.
//
// # Comparison
//
// In a round each reader runs once, in an order that is drawn anew. A ratio is
// that of two runs of one round; what is reported is the median over rounds,
// with the smallest and the largest. Rows have the values of each round too.
//
// A row is marked as not valid, and neither has ratios nor do others have one to
// it, if its accounts do not add up, if trains were sent that a reader with GRO did
// not get as trains in every round (less than half of the sender's on average), if
// the sender did not reach the rate, if in a round nothing was read or no processor
// time was counted, or if its receive buffer is smaller.
//
// # Paths
//
// On loopback and veth a train passes whole, and the kernel makes none out of
// single datagrams. On veth-cut it is cut at the sender's interface, and what a
// reader gets are the trains that the kernel joins again. Over a wire (see netlab)
// datagrams come one by one, so that no reader with GRO has valid rows of trains there.
// Any path but the first two may lose.
//
// # Accounting
//
// Each datagram carries its flow and number. What was sent must be what was
// read plus what the kernel says it dropped at the socket (SO_MEMINFO), exactly, or
// the row says so and the run fails. The kernel counts a train that it drops as one:
// on loopback and veth that is a train of the sender, and over a wire a datagram. Where
// the kernel joins, it is
// any number of datagrams up to 64; the accounts of a reader with GRO can then only
// be bounded, and the row says so as soon as there is a drop. What the path itself
// counts as lost (netlab.Lab.Stats) is in the row as path_lost, and what is missing
// beyond both as unaccounted.
//
// # iperf3
//
// A row of iperf3 is a check of the order of magnitude, by a program that is not
// ours. It has one run a cell, after the rounds, for a whole second at least, and
// no ratios. It sends for itself, paced in bursts, and receives by one read(2) a
// datagram, without GRO and with the system's receive buffer; so it has no trains,
// and no row where they are sent. The processor time is what its server says of its
// process, from begin to end, with the control connection. What is lost it knows by
// its own numbers.
package recv
