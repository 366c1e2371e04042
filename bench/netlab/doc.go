// Package netlab has the networks that a benchmark or a test sends over: the loopback
// interface, and links between network namespaces of their own. No packet of them
// leaves the machine.
//
// # Paths
//
// loopback: both ends are in the namespace of this process. A train (UDP_SEGMENT) crosses
// whole, and a socket with UDP_GRO reads it whole.
//
// veth: a veth pair between two namespaces. A train crosses whole here, too.
//
//	sender ── lab0 ══ veth ══ lab0 ── receiver
//
// veth-cut: the same, but either end's device takes no trains to send, so that the kernel
// cuts them just before, and either end joins what it receives (GRO, by NAPI), for sockets
// with UDP_GRO. It is what happens between two network cards: what arrives together is
// joined, and that is up to the load.
//
//	sender ── cut ── lab0 ══ veth ══ lab0 ── join ── receiver
//
// wan: 10 ms, 0.1 % loss and 1 Gbit/s each way, with a queue of 2.5 MB. Lab.Emulator says
// what does it: netem where the kernel has it, else a wire.
//
//	sender ── cut ── lab0 ══ [ netem · bridge · netem ] ══ lab0 ── join ── receiver
//	sender ── cut ── lab0 (TUN) ── wire ── lab0 (TUN) ── receiver
//
// With netem there is a third namespace, with a bridge and netem on either of its ends: a
// qdisc on the sender's own device would be given whole trains, and lose them whole.
//
// # The wire
//
// A wire takes packets from a TUN device to the other, in user space. It can do all that
// a Profile has: besides what netem does, jitter that keeps the order, reordering, black
// holes and NAT. Its chances are from a seed, one number after another for each packet of
// a direction: the nth packet has the same fate in every run, but for what the queue does,
// which is up to time. Its counters are exact: each packet that was sent has arrived, or is
// counted. What the kernel says to groups (multicast listener discovery) is left out.
//
// Packets are never early, and late by 2 % of the delay but at most 0.2 ms, and by what
// the wire waits for a processor: it takes what has come in meanwhile at once, and lets go
// at once what has come due, as a network card does that moderates its interrupts.
//
// Who pays for a packet: a veth has the sender's thread, or whoever has the processor,
// take it into the receiver's socket (soft interrupts). A wire's own thread does that. So
// the receiver's process is charged for its system calls, and for what soft interrupts hit
// it by chance.
//
// # Needs
//
// Root, or CAP_SYS_ADMIN and CAP_NET_ADMIN, on Linux: CONFIG_NET_NS and CONFIG_VETH; for
// netem CONFIG_NET_SCH_NETEM and CONFIG_BRIDGE; for a wire CONFIG_TUN and /dev/net/tun.
// Before Linux 6.11 a TUN device refuses UDP_SEGMENT (EIO), which quic-go then does
// without. Elsewhere Open knows loopback only; the others' error is errors.ErrUnsupported.
//
// The namespaces have no names, and are held by the files of Lab and by what runs in them:
// nothing is left of them when the process ends, however it does. A wire's process ends
// with its parent. The interfaces, routes and rules of the machine are not touched.
package netlab
