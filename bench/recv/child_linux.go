package recv

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"

	"github.com/tailfin-quic/tailfin/bench/proc"
)

// The roles of this bench's processes.
const (
	roleReceiver = "recv-receiver"
	roleSender   = "recv-sender"
)

// Roles are what a program that calls Run must give to proc.Child.
func Roles() map[string]proc.Role {
	return map[string]proc.Role{
		roleReceiver: proc.RoleOf(receive),
		roleSender:   proc.RoleOf(send),
	}
}

// ready is a line by which a process says that it has come to a point: a receiver that
// it has a port, and later that the measured interval is over; a sender that its first
// train is on its way.
type ready struct {
	Port  int    `json:"port"`
	Error string `json:"error"`
}

// await reads such a line.
func await(p *proc.Process) (port int, err error) {
	var r ready
	if err := p.Line(&r); err != nil {
		return 0, err
	}
	if r.Error != "" {
		return 0, errors.New(r.Error)
	}
	return r.Port, nil
}

// startSender starts a sender, and returns when it has begun.
func startSender(ctx context.Context, c senderConfig, at proc.Place) (*proc.Process, error) {
	cmd, err := proc.Command(ctx, roleSender, c)
	if err != nil {
		return nil, err
	}
	p, err := proc.Start(cmd, at)
	if err != nil {
		return nil, err
	}
	if _, err := await(p); err != nil {
		p.Kill()
		return nil, err
	}
	return p, nil
}

// exchange has a receiver read what a sender sends, and returns what both say of it.
// The sender goes on until the receiver has measured, so that there is no part of the
// interval in which nothing was sent.
func exchange(ctx context.Context, receiver *exec.Cmd, receiverAt proc.Place, sender senderConfig, senderAt proc.Place) (r result, sent sentReport, err error) {
	to, err := proc.Start(receiver, receiverAt)
	if err != nil {
		return r, sent, err
	}
	port, err := await(to)
	if err != nil {
		to.Kill()
		return r, sent, err
	}
	sender.To = netip.AddrPortFrom(sender.To.Addr(), uint16(port))
	from, err := startSender(ctx, sender, senderAt)
	if err != nil {
		to.Kill()
		return r, sent, fmt.Errorf("sender: %w", err)
	}
	_, err = await(to)
	if err != nil {
		from.Kill()
		to.Kill()
		return r, sent, fmt.Errorf("receiver: %w", err)
	}
	err = from.End(&sent)
	if err == nil && sent.Error != "" {
		err = errors.New(sent.Error)
	}
	if err != nil {
		to.Kill()
		return r, sent, fmt.Errorf("sender: %w", err)
	}
	err = to.End(&r)
	if err == nil && r.Error != "" {
		err = errors.New(r.Error)
	}
	if err != nil {
		return r, sent, fmt.Errorf("receiver: %w", err)
	}
	return r, sent, nil
}
