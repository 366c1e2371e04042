// Package takeover lets a second instance of the daemon, on the same address, take
// over from the one that runs, without losing a request.
//
//	l, err := takeover.Listen(ctx, takeover.Config{Network: "udp", Address: ":4433", Shards: n, Takeover: true})
//	l.Tickets(tlsConf)
//	for _, tr := range l.Transports() {
//		go server.ServeTransport(tr)
//	}
//	err = l.Ready(ctx)
//	…
//	<-l.Superseded()
//	server.Shutdown(ctx) // GOAWAY; what is at work is finished
//	l.Close(ctx)
//
// # Whose a datagram is
//
// Both instances have sockets on the address (SO_REUSEPORT), and the kernel may give
// a datagram to either. Whose it is stands in its destination connection ID:
//
//	of ours, 7 bytes:   shard (modulo) │ generation │ 5 random bytes
//	of a client, 8–20:  whatever the client chose for its first packets
//
// The first of the instances on an address has a random generation, and each later
// one the next number (modulo 256). What has a generation goes to the instance of
// that generation. What has a client's own choice is for whoever takes newcomers,
// which is the last instance that was ready, and so is all else.
//
//	       kernel, by program or by hash
//	          │                    │
//	┌─────────▼────────┐  ┌────────▼─────────┐
//	│ old, g           │  │ new, g+1         │
//	│ socket of shard i│  │ socket of shard j│
//	│ Inspector ───────┼──┼──▶ received      │  newcomers, and g+1, that came to the old
//	│ received ◀───────┼──┼─── Inspector     │  g that came to the new
//	│ Deliver to shard │  │ Deliver to shard │
//	│ quic.Transport   │  │ quic.Transport   │
//	└──────────────────┘  └──────────────────┘
//
// With a program (see udp.ListenShards) the kernel does all of it: the program of the
// new instance selects from the old one's sockets too, whose map (not the sockets,
// which can be in one map only) is passed along with the offer. Where programs are
// not permitted the kernel's hash gives each instance a share of all that comes, and
// they pass on what is not theirs, over a socket between them. With the datagram go
// its control messages: ECN, and the local address, from which the answer must leave
// on a wildcard socket. Nothing waits for a full socket; what does not fit is counted
// and left to QUIC's loss recovery. Only while there are two instances is anything
// looked at; an instance alone has no Inspector.
//
// # The hand-over
//
// They speak over a control socket, SOCK_SEQPACKET in the abstract namespace, named
// after user and address. Having it is the lock that keeps instances from sharing the
// port unnoticed; the kernel says whose process is at the other end (SO_PEERCRED),
// and another user's is refused.
//
//	new                                    old
//	 │ connect, hello {version, takeover}   │
//	 ├─────────────────────────────────────▶│  refusal without takeover, or while
//	 │                                      │  another is being let in
//	 │ offer {generation, keys, groups}     │
//	 │  + control socket, maps of sockets   │
//	 │◀─────────────────────────────────────┤
//	 │ bind; pass on all that comes         │
//	 │ … serve …                            │  serves all
//	 │ ready                                │
//	 ├─────────────────────────────────────▶│  from here on newcomers are the new one's
//	 │                                yield │
//	 │◀─────────────────────────────────────┤
//	 │ accept on the control socket         │  handshakes that have begun are completed
//	 │                                      │  Superseded: GOAWAY, requests are finished
//	 │                              drained │
//	 │◀─────────────────────────────────────┤  passes on what its sockets still hold
//	 │                                  EOF │
//	 │◀─────────────────────────────────────┘
//
// The control socket itself goes with the offer, so that the name is held at every
// moment by somebody who is alive. The keys (stateless resets, address validation
// tokens, session tickets) are the same in all instances: what a client has been
// given by one is good at the next.
//
// # Handshakes
//
// A client goes on to use its own choice of connection ID until a packet of the
// server has come. If the hand-over falls between two packets of its ClientHello, or
// between them and the answer, both instances may answer. The client takes the first
// answer, and ignores the other instance (RFC 9000 §7.2); what that one had received
// is sent again. So a handshake costs one probe timeout more at worst. The old
// instance completes its own handshakes before Superseded is closed: until none has
// shown itself for 1.5 seconds, at most 10.
//
// # Ends
//
// The new instance ends before ready: the old one goes on, and has its program
// attached again. It ends after that, but before Superseded: the same, and the
// connections it had are reset. It ends later: the old one finishes what it has, and
// lets another one take over meanwhile. The old one ends before it has drained: the
// new one gets its datagrams, and answers with stateless resets.
//
// A third instance may take over while the first is at work. It is connected to the
// second only, which passes on what is for the first, also when it has nothing of
// its own any more: Close waits for the older instance. The first hears that there is
// a third (heir). If the second ends all the same, the first leaves the address to
// it. Requests at work at the first survive that only where the kernel steers.
//
// A handful of datagrams is lost where the kernel goes by its hash and gives them to
// a socket between its last read and its end. QUIC sends their contents again.
//
// Instances must be in one network namespace, and be of one user. With sockets that
// were passed in, as by systemd, there is nothing to take over: they outlive the
// process, and what comes waits in them. Elsewhere than on Linux a Listener is one
// of an instance alone.
package takeover
