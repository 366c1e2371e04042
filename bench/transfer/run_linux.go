package transfer

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/tailfin-quic/tailfin/bench/proc"
	"github.com/tailfin-quic/tailfin/bench/rounds"
)

// The roles of this bench's processes.
const (
	roleReceiver = "transfer-receiver"
	roleSender   = "transfer-sender"
)

// Roles are what a program that calls Run must give to proc.Child. Receivers show a
// certificate that newCert makes, which senders trust whatever it says.
func Roles(newCert func() (tls.Certificate, error)) map[string]proc.Role {
	return map[string]proc.Role{
		roleReceiver: func(config json.RawMessage, in io.Reader, out io.Writer) error {
			var c receiverConfig
			if err := json.Unmarshal(config, &c); err != nil {
				return err
			}
			return receive(c, newCert, in, out)
		},
		roleSender: func(config json.RawMessage, _ io.Reader, out io.Writer) error {
			var c senderConfig
			if err := json.Unmarshal(config, &c); err != nil {
				return err
			}
			var report sentReport
			if err := send(c); err != nil {
				report.Error = err.Error()
			}
			return json.NewEncoder(out).Encode(report)
		},
	}
}

// Run measures all receivers. The error is for what ends the whole: a bad Config, a
// context that is done, or a run in which not every byte arrived.
func Run(ctx context.Context, c Config) ([]Row, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if c.Pin && runtime.NumCPU() < 2 {
		return nil, errors.New("pinning needs two processors; measure unpinned")
	}
	var results rounds.Results[result]
	err := results.Run(ctx, c.Plan, c.Receivers, c.once)
	return rows(&c, &results), err
}

// each is the size of one body.
func (c *Config) each() int64 { return c.Bytes / int64(c.Streams) }

// once is one run.
func (c *Config) once(ctx context.Context, name string) (res result, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute+time.Duration(c.Bytes/1e6)*10*time.Millisecond)
	defer cancel()
	receiver, sender := proc.Places(c.Pin)
	cmd, err := proc.Command(ctx, roleReceiver, receiverConfig{Receiver: name})
	if err != nil {
		return res, err
	}
	p, err := proc.Start(cmd, receiver)
	if err != nil {
		return res, err
	}
	var hello ready
	if err := p.Line(&hello); err != nil || hello.Error != "" {
		p.Kill()
		return res, errors.Join(err, errors.New(hello.Error))
	}
	if err := c.send(ctx, hello.Addr, sender); err != nil {
		p.Kill()
		return res, fmt.Errorf("sender: %w", err)
	}
	if err := p.End(&res); err != nil {
		return res, err
	}
	if res.Error != "" {
		return res, errors.New(res.Error)
	}
	if res.Bytes != c.each()*int64(c.Streams) || res.Whole != c.Streams {
		return res, &rounds.Invalid{Err: fmt.Errorf("%s received %d bytes in %d whole bodies, of %d in %d sent", name, res.Bytes, res.Whole, c.each()*int64(c.Streams), c.Streams)}
	}
	return res, nil
}

// send runs a sender process.
func (c *Config) send(ctx context.Context, addr string, at proc.Place) error {
	cmd, err := proc.Command(ctx, roleSender, senderConfig{Addr: addr, Bytes: c.each(), Streams: c.Streams})
	if err != nil {
		return err
	}
	p, err := proc.Start(cmd, at)
	if err != nil {
		return err
	}
	var report sentReport
	if err := p.Last(&report); err != nil {
		return err
	}
	if report.Error != "" {
		return errors.New(report.Error)
	}
	return nil
}
