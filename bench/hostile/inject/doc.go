// Package inject has system calls of another process fail, as the kernel would have
// them fail, on Linux.
//
// The other process puts itself below a seccomp filter by Confine, which has the calls
// that it names wait for a Supervisor (seccomp_unotify(2)). That answers each by an
// errno or lets it go on, as its Faults say, and counts both: a test knows that a fault
// was met, how often, and how fast the process called.
//
//	test                                  process under test
//	────                                  ──────────────────
//	start it                              Confine(SYS_RECVMMSG, …)
//	s, err := Attach(pid)
//	f := &Fault{Call: SYS_RECVMMSG, Errno: unix.ENOMEM}
//	s.Set(f)                              recvmmsg(…) = ENOMEM, once
//	… f.Injected() == 1
//
// A call that fails is not carried out: what it would have done has not happened.
package inject
