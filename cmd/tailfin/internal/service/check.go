package service

import (
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/certs"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/config"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/gateway"
	natssink "github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink/nats"
)

// Check tells what of a configuration cannot work, as far as that can be told without
// making, opening or reaching anything.
func Check(c *config.Loaded) error {
	opts, err := certOptions(c)
	if err != nil {
		return err
	}
	if err := certs.Check(opts); err != nil {
		return explainCerts(c, err)
	}
	switch c.SinkKind() {
	case config.NATS:
		if _, err := natssink.ParseURL(c.Sink); err != nil {
			return c.Wrong("sink", c.SinkName(), err, "")
		}
	case config.Gateway:
		if err := gateway.CheckURL(c.Sink); err != nil {
			return c.Wrong("sink", c.SinkName(), err, "")
		}
		_, err := upstreamTLS(c)
		return err
	}
	return nil
}
