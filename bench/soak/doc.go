// Package soak runs `tailfin serve`, as a process, under a mixed load with random faults
// for as long as is wanted, and says whether anything was lost, and whether anything that
// the process holds has grown.
//
// # Load
//
// A second process is the clients, some of them `tailfin put` in processes of their own:
//
//	put-small, put-large   uploads on kept connections; what is stored is compared and removed
//	get, get-stored, echo  downloads of /bytes/N and of what was stored, and echoes, compared
//	leave                  uploads whose client closes right behind them, and waits for no answer
//	short                  a connection for one request, by our client and by quic-go/http3's
//	seldom, idle           kept connections with a request now and then
//	slow-read, slow-write  bodies that trickle
//	abort, resets          uploads and downloads given up half way, and many requests given up at once
//	resume                 uploads that are cut and go on where they were, up to three times
//	killed                 tailfin put, killed, and started again with --resume
//
// # Faults
//
// They come one after another, by a schedule that is drawn from the seed: the process
// stopped for a second, bursts of garbage, Initials from addresses that do not answer, and
// reloads, with new certificates and with files that are wrong; where there may be a wire
// (package netlab, which needs root) also loss, reordering, a network that is cut, a narrow
// one, one with an MTU that nobody tells of, and a NAT that forgets. Take-overs come at
// fixed times in the first half: a new process takes the address, and the samples are of
// that one from there on. So the last one has the longer half to itself.
//
// # What is counted
//
//	lost      what was answered 201 and is not stored; an upload that was sent whole before
//	          its client left, and is not stored; an offset that went back; a request that
//	          failed, or was not answered within its time
//	corrupt   what is stored, or was received, otherwise than it was sent
//	crashed   a process that ended by itself, a handler that panicked
//	leaked    files that nobody asked for any more and that are still there
//
// While the network is worse than lossless, a request may fail: its client is told so.
// Such are counted apart, as failed. What a client has sent that does not wait may be lost
// there, by the network; such are counted as unsure. So are those that meet a fault in
// which datagrams may be dropped before they are read.
//
// # Levels
//
// Every few seconds is read what the process holds: from /metrics the heap that was live
// after the last garbage collection, objects, goroutines, connections, and requests at
// work; from /proc resident memory, descriptors, mappings, which rings and their buffers
// are, and threads; and the clients' heap, goroutines and descriptors, since our Transport
// is soaked too. The first fifth of each process's time is left out, and at least 90 s of it.
// For the rest the growth is estimated: the median of the slopes between all pairs of samples
// of the same process (Theil–Sen), times how long that is. One that exceeds its allowance is
// growing, and the soak has failed. A process that has less than two and a half minutes is not
// judged.
//
// When the load has ended connections, goroutines and descriptors must be back where they
// were before it within a minute.
package soak
