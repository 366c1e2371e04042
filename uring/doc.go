// Package uring takes datagrams off UDP sockets through an io_uring, many by
// one system call.
//
// It needs Linux 6.1. What it uses of io_uring is a multishot recvmsg
// (io_uring_prep_recvmsg_multishot(3), Linux 6.0) that takes its buffers from a
// provided-buffer ring (io_uring_register_buf_ring(3), 5.19).
//
//	rx, err := uring.NewReceiver(uring.Config{})
//	for {
//		… wait until the socket is readable …
//		for {
//			err = rx.Receive(fd)
//			for d, ok := rx.Next(); ok; d, ok = rx.Next() {
//				… d.Name, d.Control, d.Payload …
//				rx.Recycle(d)
//			}
//			if rx.Drained() {
//				break
//			}
//		}
//	}
//
// # Nothing is left under way
//
// A multishot receive usually stays armed and completes whenever something
// comes. Here each says MSG_DONTWAIT, and ends with EAGAIN at the end of the
// socket's queue, or with ENOBUFS when the buffers are used up, within the
// io_uring_enter(2) that submits it. So it is a recvmmsg(2) that needs no
// headers copied in and out, and that tells that the queue is empty without
// another call. And so the ring belongs to no thread, no work of it runs when
// nobody calls, a close has nothing to cancel, and a socket is not held.
//
// An armed receive was measured against this (Linux 6.18, Go 1.26): on a ring
// that a locked thread owns and waits in (DEFER_TASKRUN, SINGLE_ISSUER), and on
// one whose descriptor is in Go's poller (COOP_TASKRUN). Each spares a call at a
// wake-up, and each pays more than that: the first hands the thread's P to
// another thread at each wait, the second wakes one thread to run the completion
// and another to read it. Armed requests also outlive their thread, and hold the
// socket's port for tens of milliseconds after it was closed.
//
// # Memory
//
// All that the kernel sees for longer than a system call is mapped, and none
// of it is Go's: the rings, the buffer ring, the buffers, the msghdr. A buffer
// holds
//
//	io_uring_recvmsg_out (16) │ name (32) │ control (Config.Control) │ payload
//
// with each part at its offset however long it came. The kernel owns a buffer
// from Recycle until the completion that names it is seen by Next, and the reader
// from then until Recycle. Nobody does before NewReceiver and after Close.
//
// The kernel's word is not taken for that: a completion must be of a receive that is
// under way, name the buffer whose turn it is, and agree with what the buffer says of
// its content. A datagram of which only the last is wrong is dropped and counted.
// With anything else the Receiver ends with ErrInconsistent, and a buffer is never
// given to the kernel twice, nor to the reader. So does one whose kernel takes
// receives and completes none. An error of a receive, of any kind, is counted, and is
// one of Receive after 64 in a row.
package uring
