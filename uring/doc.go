// Package uring receives the datagrams of one UDP socket through one io_uring.
//
// It needs Linux 6.1 and what it uses of io_uring is: a multishot recvmsg
// (io_uring_prep_recvmsg_multishot(3), Linux 6.0) that takes its buffers from a
// provided-buffer ring (io_uring_register_buf_ring(3), 5.19), on a ring whose
// work is done on the thread that waits for it (IORING_SETUP_DEFER_TASKRUN and
// SINGLE_ISSUER, 6.1).
//
//	rx, err := uring.NewReceiver(fd, uring.Config{})
//	runtime.LockOSThread()
//	err = rx.Own()
//	for {
//		for d, ok := rx.Next(); ok; d, ok = rx.Next() {
//			… d.Name, d.Control, d.Payload …
//			rx.Recycle(d)
//		}
//		err = rx.Wait(-1)
//	}
//
// # Ownership
//
// With DEFER_TASKRUN only the owner's io_uring_enter makes completions
// visible: neither epoll nor a look at the ring's memory from elsewhere does.
// So the thread that reads owns the ring. A thread that ends takes its requests
// with it; a ring without its owner is good for Abandon only.
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
// from Recycle until the completion that names it, and the reader from then on.
//
// # What ends a receive
//
// A multishot receive ends when there is no buffer left (ENOBUFS), with some
// errors, and at the kernel's discretion; a completion without IORING_CQE_F_MORE
// says so. The next Wait arms it again. Meanwhile datagrams wait in the socket,
// and none is lost.
package uring
