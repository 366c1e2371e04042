package main

import (
	"context"
	"os"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/config"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/service"
)

// serveCmd is `tailfin serve`.
type serveCmd struct {
	config.Serve `embed:""`
}

// Run serves until a signal.
func (c *serveCmd) Run(ctx context.Context, args commandArgs) error {
	load := func() (*config.Loaded, error) { return config.Parse(args) }
	loaded, err := load()
	if err != nil {
		return err
	}
	return service.Run(ctx, service.Options{Config: loaded, Reload: load, Stderr: os.Stderr, Version: version})
}
