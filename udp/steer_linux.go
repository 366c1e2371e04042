package udp

import (
	"errors"
	"fmt"
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

// reusePort is the Control of net.ListenConfig for a shard.
func reusePort(_, _ string, raw syscall.RawConn) error {
	var err error
	if cerr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}); cerr != nil {
		return cerr
	}
	return os.NewSyscallError("setsockopt SO_REUSEPORT", err)
}

// steer has the kernel choose a socket as shardOf does.
func steer(conns []*Conn) error {
	// Kernels before 5.11 count the map against RLIMIT_MEMLOCK.
	_ = rlimit.RemoveMemlock()
	sockets, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "tailfin_shards", Type: ebpf.ReusePortSockArray,
		KeySize: 4, ValueSize: 8, MaxEntries: uint32(len(conns)),
	})
	if err != nil {
		return explainSteering("create the map of sockets", err)
	}
	defer func() { _ = sockets.Close() }() // the program keeps it
	for i, c := range conns {
		if err := sockets.Put(uint32(i), uint64(c.sock.fd)); err != nil {
			return fmt.Errorf("put socket %d into the map: %w", i, err)
		}
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "tailfin_steer", Type: ebpf.SkReuseport, License: "Apache-2.0",
		Instructions: steering(sockets.FD(), len(conns)),
	})
	if err != nil {
		return explainSteering("load the steering program", err)
	}
	defer func() { _ = program.Close() }() // the sockets keep it
	return conns[0].sock.setInt(unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF, program.FD())
}

// explainSteering says what to do about a program that the kernel refuses.
func explainSteering(what string, err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%s: %w; give the process CAP_BPF and CAP_NET_ADMIN, and permit bpf in its seccomp profile", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// steering is shardOf for the kernel: a program that looks at a datagram from
// its UDP header on (struct sk_reuseport_md, linux/bpf.h) and selects a socket.
// It returns SK_PASS without a selection where any will do, and the kernel
// takes one by the hash of addresses and ports then.
func steering(sockets, shards int) asm.Instructions {
	const (
		udpHeader = 8
		skPass    = 1
		buf       = -16 // on the stack, 8 bytes
		key       = -24 // 4 bytes
	)
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
		}
	}
	var p asm.Instructions
	p = append(p, asm.Mov.Reg(asm.R6, asm.R1))
	p = append(p, load(0, 2)...)
	p = append(p,
		asm.LoadMem(asm.R7, asm.RFP, buf, asm.Byte),
		asm.LoadMem(asm.R8, asm.RFP, buf+1, asm.Byte),
		asm.And.Imm(asm.R7, 0x80),
		asm.JEq.Imm(asm.R7, 0, "select"), // short header
	)
	p = append(p, load(5, 2)...)
	p = append(p,
		asm.LoadMem(asm.R7, asm.RFP, buf, asm.Byte),
		asm.LoadMem(asm.R8, asm.RFP, buf+1, asm.Byte),
		asm.JEq.Imm(asm.R7, shardIDLen, "select"),
		asm.JLT.Imm(asm.R7, minClientIDLen, "pass"),
		asm.JGT.Imm(asm.R7, maxClientIDLen, "pass"),
	)
	p = append(p, load(6, minClientIDLen)...)
	mix := uint64(clientIDMix)
	return append(p,
		asm.LoadMem(asm.R8, asm.RFP, buf, asm.DWord),
		asm.HostTo(asm.LE, asm.R8, asm.DWord),
		asm.LoadImm(asm.R1, int64(mix), asm.DWord),
		asm.Mul.Reg(asm.R8, asm.R1),
		asm.RSh.Imm(asm.R8, 32),

		asm.Mod.Imm(asm.R8, int32(shards)).WithSymbol("select"),
		asm.StoreMem(asm.RFP, key, asm.R8, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.LoadMapPtr(asm.R2, sockets),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, key),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnSkSelectReuseport.Call(),

		asm.Mov.Imm(asm.R0, skPass).WithSymbol("pass"),
		asm.Return(),
	)
}
