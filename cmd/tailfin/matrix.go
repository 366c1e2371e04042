package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os"

	"github.com/tailfin-quic/tailfin/bench"
	"github.com/tailfin-quic/tailfin/bench/closerace"
	"github.com/tailfin-quic/tailfin/udp"
)

// matrix runs the race matrix, drain off and on, and fails if the drain lost
// anything.
func (c *demoCmd) matrix(ctx context.Context, backend udp.Backend, cert tls.Certificate) error {
	var rows []closerace.MatrixCell
	for _, off := range []bool{true, false} {
		conf := closerace.MatrixConfig{Iterations: c.Iterations, Backend: backend, DisableDrain: off, Certificate: cert}
		if isTerminal(os.Stderr) {
			conf.Progress = func(cell closerace.MatrixCell) {
				fmt.Fprintf(os.Stderr, "\r\033[K%s, %s, close %s, drain %s: %d lost ", cell.Direction, cell.Shape, cell.Close, cell.Drain, cell.Lost)
			}
		}
		cells, err := closerace.Matrix(ctx, conf)
		if conf.Progress != nil {
			fmt.Fprint(os.Stderr, "\r\033[K")
		}
		if err != nil {
			return err
		}
		rows = append(rows, cells...)
	}
	var err error
	if c.JSON {
		err = json.NewEncoder(os.Stdout).Encode(map[string]any{"environment": bench.Environ(), "rows": rows})
	} else {
		err = closerace.PrintMatrix(os.Stdout, rows)
	}
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r.Drain == "on" && !r.Fine() {
			return fmt.Errorf("the drain lost %d messages and %d bytes (%s, %s, close %s); please report this with `tailfin doctor --json`",
				r.Lost, r.LostBytes, r.Direction, r.Shape, r.Close)
		}
	}
	return nil
}
