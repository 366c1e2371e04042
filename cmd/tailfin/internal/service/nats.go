package service

import "github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"

var natsKind = sink.Kind{Schemes: []string{"nats", "tls"}, Forms: []string{"nats://HOST:PORT/STREAM"}}
