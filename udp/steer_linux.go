package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// haveShards tells whether the system distributes datagrams over sockets with
// one address.
const haveShards = true

// shareable is the Control of net.ListenConfig for a shard.
func shareable(_, address string, raw syscall.RawConn) error {
	var err error
	if cerr := raw.Control(func(fd uintptr) {
		if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err == nil {
			askForControl(int(fd), wildcard(address))
		}
	}); cerr != nil {
		return cerr
	}
	return os.NewSyscallError("setsockopt SO_REUSEPORT", err)
}

// askForControl asks for the control messages that quic-go (v0.65.0) asks for: ECN,
// and on a wildcard socket the local address. It does so itself only when its
// Transport is used, and to what is received before, here or for another process,
// it would answer from whatever address the kernel picks. Errors are left to it:
// an IPv4 socket knows nothing of the options of IPv6.
func askForControl(fd int, wildcard bool) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTOS, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1)
	if wildcard {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	}
}

// wildcard tells whether a local address is that of all interfaces.
func wildcard(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip, perr := netip.ParseAddr(host)
	return err == nil && (host == "" || perr == nil && ip.IsUnspecified())
}

// A socketMap is the sockets of shards, in the kernel.
type socketMap struct{ *ebpf.Map }

func (m *socketMap) close() {
	if m != nil {
		_ = m.Close()
	}
}

// mapped makes the map of sockets, once. The caller holds mu.
func (s *Shards) mapped() (*socketMap, error) {
	if s.sockets != nil {
		return s.sockets, nil
	}
	// Kernels before 5.11 count the map against RLIMIT_MEMLOCK.
	_ = rlimit.RemoveMemlock()
	m, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "tailfin_shards", Type: ebpf.ReusePortSockArray,
		KeySize: 4, ValueSize: 8, MaxEntries: uint32(len(s.conns)),
	})
	if err != nil {
		return nil, explainSteering("create the map of sockets", err)
	}
	for i, c := range s.conns {
		if err := m.Put(uint32(i), uint64(c.sock.fd)); err != nil {
			_ = m.Close()
			return nil, fmt.Errorf("put socket %d into the map: %w", i, err)
		}
	}
	s.sockets = &socketMap{m}
	return s.sockets, nil
}

// group is a descriptor of the map. The caller holds mu.
func (s *Shards) group() (*os.File, error) {
	m, err := s.mapped()
	if err != nil {
		return nil, err
	}
	fd, err := unix.FcntlInt(uintptr(m.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), "tailfin_shards"), nil
}

// attach has the kernel choose a socket as shardOf does. The caller holds mu.
func (s *Shards) attach(older []Group) error {
	m, err := s.mapped()
	if err != nil {
		return err
	}
	own := target{routing: s.route, sockets: m.FD()}
	var others []target
	for _, g := range older {
		others = append(others, target{routing{g.Shards, int(g.Generation)}, int(g.Sockets.Fd())})
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "tailfin_steer", Type: ebpf.SkReuseport, License: "Apache-2.0",
		Instructions: steering(own, others),
	})
	if err != nil {
		return explainSteering("load the steering program", err)
	}
	defer func() { _ = program.Close() }() // the sockets keep it
	return s.conns[0].sock.setInt(unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF, program.FD())
}

// explainSteering says what to do about a program that the kernel refuses.
func explainSteering(what string, err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%s: %w; give the process CAP_BPF and CAP_NET_ADMIN, and permit bpf in its seccomp profile", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// A target is shards that a program steers to.
type target struct {
	routing
	sockets int // descriptor of the map
}

// steering is shardOf for the kernel: a program that looks at a datagram from
// its UDP header on (struct sk_reuseport_md, linux/bpf.h) and selects a socket.
// It returns SK_PASS without a selection where any will do, and the kernel
// takes one by the hash of addresses and ports then.
//
// What has the generation of an older process goes to that, and if that has closed
// its socket to one of ours.
func steering(own target, older []target) asm.Instructions {
	const (
		udpHeader = 8
		skPass    = 1
		buf       = -16 // on the stack, 8 bytes
		key       = -24 // 4 bytes
	)
	// What is looked at of our connection IDs: the byte of the shard and, with
	// generations, theirs.
	idBytes := int32(1)
	if own.generation != noGeneration {
		idBytes = 2
	}
	// load copies bytes of the datagram to buf. The helper is there for data
	// that is not in the linear part of the packet.
	load := func(offset, length int32) asm.Instructions {
		return asm.Instructions{
			asm.Mov.Reg(asm.R1, asm.R6),
			asm.Mov.Imm(asm.R2, udpHeader+offset),
			asm.Mov.Reg(asm.R3, asm.RFP),
			asm.Add.Imm(asm.R3, buf),
			asm.Mov.Imm(asm.R4, length),
			asm.FnSkbLoadBytes.Call(),
			asm.JNE.Imm(asm.R0, 0, "pass"), // too short
			asm.LoadMem(asm.R7, asm.RFP, buf, asm.Byte),
			asm.LoadMem(asm.R8, asm.RFP, buf+1, asm.Byte),
			asm.LoadMem(asm.R9, asm.RFP, buf+2, asm.Byte),
		}
	}
	// choose selects the socket by R8, which it keeps.
	choose := func(t target) asm.Instructions {
		return asm.Instructions{
			asm.Mov.Reg(asm.R2, asm.R8),
			asm.Mod.Imm(asm.R2, int32(t.shards)),
			asm.StoreMem(asm.RFP, key, asm.R2, asm.Word),
			asm.Mov.Reg(asm.R1, asm.R6),
			asm.LoadMapPtr(asm.R2, t.sockets),
			asm.Mov.Reg(asm.R3, asm.RFP),
			asm.Add.Imm(asm.R3, key),
			asm.Mov.Imm(asm.R4, 0),
			asm.FnSkSelectReuseport.Call(),
		}
	}
	p := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.Mov.Imm(asm.R0, 0),
		asm.StoreMem(asm.RFP, buf, asm.R0, asm.DWord), // the verifier wants all of it set
	}
	p = append(p, load(0, 1+idBytes)...)
	p = append(p,
		asm.And.Imm(asm.R7, 0x80),
		asm.JEq.Imm(asm.R7, 0, "issued"), // short header
	)
	p = append(p, load(5, 1+idBytes)...)
	p = append(p,
		asm.JEq.Imm(asm.R7, shardIDLen, "issued"),
		asm.JLT.Imm(asm.R7, minClientIDLen, "pass"),
		asm.JGT.Imm(asm.R7, maxClientIDLen, "pass"),
	)
	p = append(p, load(6, minClientIDLen)...)
	mix := uint64(clientIDMix)
	p = append(p,
		asm.LoadMem(asm.R8, asm.RFP, buf, asm.DWord),
		asm.HostTo(asm.LE, asm.R8, asm.DWord),
		asm.LoadImm(asm.R1, int64(mix), asm.DWord),
		asm.Mul.Reg(asm.R8, asm.R1),
		asm.RSh.Imm(asm.R8, 32),
		asm.Ja.Label("own"),
	)
	p = append(p, asm.Mov.Imm(asm.R0, 0).WithSymbol("issued"))
	for i, t := range older {
		next := fmt.Sprintf("older%d", i)
		p = append(p, asm.JNE.Imm(asm.R9, int32(t.generation), next))
		p = append(p, choose(t)...)
		p = append(p,
			asm.JEq.Imm(asm.R0, 0, "pass"),
			asm.Mov.Imm(asm.R0, 0).WithSymbol(next),
		)
	}
	p = append(p, asm.Mov.Imm(asm.R0, 0).WithSymbol("own"))
	p = append(p, choose(own)...)
	return append(p,
		asm.Mov.Imm(asm.R0, skPass).WithSymbol("pass"),
		asm.Return(),
	)
}
