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
//	sender ── lab0 (TUN) ── [ cut · wire · join ] ── lab0 (TUN) ── receiver
//
// With netem there is a third namespace, with a bridge and netem on either of its ends: a
// qdisc on the sender's own device would be given whole trains, and lose them whole.
//
// # The wire
//
// A wire takes packets from a TUN device to the other, in user space. It can do all that
// a Profile has: besides what netem does, jitter that keeps the order, reordering, black
// holes and NAT. While it carries, Lab.Rebind has the NAT forget its mappings, and
// Lab.Interrupt has nothing get through. Its chances are from a seed, one number after another for each packet of
// a direction: the nth packet has the same fate in every run, but for what the queue does,
// which is up to time. Its counters are exact: each packet that was sent has arrived, or is
// counted. What the kernel says to groups (multicast listener discovery) is left out.
//
// A wire cuts the trains that it is given, has each datagram meet its own fate, and joins
// those of a flow that it hands over at the same time, as GRO does; a socket without UDP_GRO
// reads them one by one. It needs Linux 6.2: before, the kernel cuts, and nothing is joined.
//
// Packets are never early, and late by 2 % of the delay but at most 0.2 ms, and by what
// the wire waits for a processor: it takes what has come in meanwhile at once, and lets go
// at once what has come due, as a network card does that moderates its interrupts. Its
// threads go before others (nice -15).
//
// Who pays for a packet: a veth has the sender's thread, or whoever has the processor,
// take it into the receiver's socket (soft interrupts). A wire's own thread does that. So
// the receiver's process is charged for its system calls, and for what soft interrupts hit
// it by chance.
//
// # Limits
//
// A wire has a thread for each direction, and needs about a quarter of a processor for
// 1 Gbit/s, which the parties do not have then. It holds at most 32768 packets of a
// direction, and its TUN devices 16384 that it has not read: what they drop is in
// Counters.Dropped. There is one flow table for the NAT, and ICMP errors do not pass it.
// A lab has two hosts, and one path.
//
// # Figures
//
// Of BenchmarkCarry, 50 trains of 40 datagrams in TestTrains, and Linux 6.18, on 2 shared
// processors with a load of 11 to 30. Trains of 40: over veth 50 packets cross, and 50 reads have
// 2000 datagrams with UDP_GRO, 2000 without. Over veth-cut 2000 packets cross, and 50 reads
// have them all with UDP_GRO, 2000 without. The wire carries 200,000 datagrams of 1252
// bytes a second, in trains of 10, for 2.0 µs of its process's time each, and loses none;
// at 100,000 a second, which is 1 Gbit/s, it takes 2.5 µs. One by one, without joining, it
// took 6.5 µs. wan, offered 2 Gbit/s, passes 1 Gbit/s less its loss.
//
// # Needs
//
// Root, or CAP_SYS_ADMIN and CAP_NET_ADMIN, on Linux: CONFIG_NET_NS and CONFIG_VETH; for
// netem CONFIG_NET_SCH_NETEM and CONFIG_BRIDGE; for a wire CONFIG_TUN and /dev/net/tun.
// Elsewhere Open knows loopback only; the others' error is errors.ErrUnsupported.
//
// The namespaces have no names, and are held by the files of Lab and by what runs in them:
// nothing is left of them when the process ends, however it does. A wire's process ends
// with its parent. The interfaces, routes and rules of the machine are not touched.
package netlab
