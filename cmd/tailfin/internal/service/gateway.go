package service

import "context"

func (d *daemon) openGateway(context.Context, *store) error { return nil }
