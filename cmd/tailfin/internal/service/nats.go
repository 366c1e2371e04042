package service

import (
	"context"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
	natssink "github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink/nats"
)

// natsKind has package sink open those of NATS.
var natsKind = sink.Kind{
	Schemes: []string{"nats", "tls"}, Forms: []string{"nats://HOST:PORT/STREAM"},
	Open: func(ctx context.Context, url string, opts sink.Options) (sink.Sink, error) {
		return natssink.Open(ctx, url, natssink.Options{Registerer: opts.Registerer, Logger: opts.Logger})
	},
}
