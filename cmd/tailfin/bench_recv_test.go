package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/tailfin-quic/tailfin/bench/recv"
)

// recvCmd is the command by its arguments.
func recvCmd(t *testing.T, args ...string) (*benchRecvCmd, error) {
	t.Helper()
	var c benchRecvCmd
	p, err := kong.New(&c, kong.Vars{"readers": "", "paths": ""})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Parse(args)
	return &c, err
}

// TestBenchRecvMatrix: what is measured by default, and how long it takes.
func TestBenchRecvMatrix(t *testing.T) {
	for _, tc := range []struct {
		args    string
		cells   int
		longest time.Duration
		says    string
	}{
		{"", 72 + 2, 45 * time.Minute, "74 cells on [loopback], 2"},
		{"--quick", 2 + 3 + 1 + 1, 45 * time.Second, "7 cells"},
		{"--no-lone", 72, 45 * time.Minute, "72 cells"},
		{"--segments 1 --flows 1 --rate 0,1000 --payload 64", 2 + 1, 5 * time.Minute, "3 cells"}, // 1000 is there already
		{"--segments 44 --flows 1 --rate 0 --payload 1452 --pairs 3 --no-lone --readers auto,stock", 1, 4 * time.Second, "1 cells on [loopback], 6 runs: about 3"},
	} {
		c, err := recvCmd(t, strings.Fields(tc.args)...)
		if err != nil {
			t.Fatal(err)
		}
		var cells int
		var takes time.Duration
		parts := c.matrix()
		for i := range parts {
			parts[i].Path = "loopback"
			if err := parts[i].Check(); err != nil {
				t.Errorf("%q: %v", tc.args, err)
			}
			cells += len(parts[i].Cells())
			takes += parts[i].Estimate()
		}
		if cells != tc.cells || takes > tc.longest {
			t.Errorf("%q: %d cells in %v", tc.args, cells, takes)
		}
		if says := recvPlan(parts); !strings.HasPrefix(says, tc.says) {
			t.Errorf("%q: %q", tc.args, says)
		}
	}
}

func TestBenchRecvRefuses(t *testing.T) {
	for _, args := range []string{
		"--path moon", "--readers best", "--segments 65", "--payload 1453", "--flows 0", "--rate=-1", "--pairs 0",
		"--warmup=-1s", "--duration 1ms", "--buffer 0", "--payload 64,64", "--quick --path moon",
	} {
		var usage *usageError
		c, err := recvCmd(t, strings.Fields(args)...)
		if err != nil {
			t.Errorf("%s: %v", args, err)
			continue
		}
		if err := c.Run(context.Background()); !errors.As(err, &usage) {
			t.Errorf("%s: %v", args, err)
		}
	}
}

func TestBenchRecvTable(t *testing.T) {
	var out strings.Builder
	err := recvTable(&out, []recv.Row{
		{Path: "veth", Reader: "auto", Segments: 16, Payload: 1200, CPU: 123, Accounting: "exact"},
		{Path: "veth", Reader: "c", Segments: 16, Skipped: "no compiler"},
		{Path: "wan", Reader: "auto", Skipped: "no such network"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"skipped: no compiler", "skipped: no such network", "123", "exact"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
