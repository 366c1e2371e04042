package recv

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"time"

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
		roleReceiver: func(config json.RawMessage, in io.Reader, out io.Writer) error {
			var c receiverConfig
			if err := json.Unmarshal(config, &c); err != nil {
				return err
			}
			return receive(c, in, out)
		},
		roleSender: func(config json.RawMessage, _ io.Reader, out io.Writer) error {
			var c senderConfig
			if err := json.Unmarshal(config, &c); err != nil {
				return err
			}
			return json.NewEncoder(out).Encode(send(c))
		},
	}
}

// startReceiver starts a receiver and waits for its port.
func startReceiver(cmd *exec.Cmd, at proc.Place) (p *proc.Process, port int, err error) {
	if p, err = proc.Start(cmd, at); err != nil {
		return nil, 0, err
	}
	var hello ready
	err = p.Line(&hello)
	if err == nil && hello.Error != "" {
		err = errors.New(hello.Error)
	}
	if err != nil {
		p.Kill()
		return nil, 0, err
	}
	return p, hello.Port, nil
}

// runSender sends to a port and returns when all is sent.
func runSender(ctx context.Context, c senderConfig, at proc.Place) (sent sentReport, err error) {
	cmd, err := proc.Command(ctx, roleSender, c)
	if err != nil {
		return sent, err
	}
	p, err := proc.Start(cmd, at)
	if err != nil {
		return sent, err
	}
	err = p.Last(&sent)
	if err == nil && sent.Error != "" {
		err = errors.New(sent.Error)
	}
	return sent, err
}

// slack is what a sender goes on for beyond warm-up and measured interval, so
// that it is there to the end of the latter.
const slack = 150 * time.Millisecond
