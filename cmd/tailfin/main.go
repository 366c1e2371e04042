// Command tailfin receives, sends and measures HTTP/3 over io_uring.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/willabides/kongplete"

	"github.com/tailfin-quic/tailfin/bench/closerace"
	"github.com/tailfin-quic/tailfin/bench/decode"
	"github.com/tailfin-quic/tailfin/bench/idle"
	"github.com/tailfin-quic/tailfin/bench/netlab"
	"github.com/tailfin-quic/tailfin/bench/proc"
	"github.com/tailfin-quic/tailfin/bench/recv"
	"github.com/tailfin-quic/tailfin/bench/soak"
	"github.com/tailfin-quic/tailfin/bench/transfer"
	"github.com/tailfin-quic/tailfin/bench/uploads"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/config"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/devcert"
)

// Exit codes. Scripts rely on them.
const (
	exitOK     = 0
	exitFailed = 1 // the work was begun and did not succeed
	exitUsage  = 2 // a flag, an argument or a file it names is unusable
)

// cli is the whole command line.
type cli struct {
	Serve      serveCmd      `cmd:"" help:"Receive: store what is put, answer what is asked."`
	Put        putCmd        `cmd:"" help:"Upload a file."`
	Get        getCmd        `cmd:"" help:"Download a URL, and fail unless every byte came."`
	Demo       demoCmd       `cmd:"" help:"Run the close race, live, and count what is lost."`
	Bench      benchCmd      `cmd:"" help:"Measure Tailfin against what is used now."`
	Doctor     doctorCmd     `cmd:"" help:"Say what this machine offers and what to change."`
	Config     configCmd     `cmd:"" help:"Check, print and explain the configuration of serve."`
	Completion completionCmd `cmd:"" help:"Print code for a shell's completion of command lines."`
	Man        manCmd        `cmd:"" hidden:"" help:"Print the manual page."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
}

// commandArgs are the arguments after the command's name.
type commandArgs []string

// A usageError is a flag or an argument that cannot be used: what, why, and
// what to do instead.
type usageError struct {
	flag   string // as the user wrote it, for example --listen
	value  string // empty for a flag without one
	err    error
	remedy string
}

func (e *usageError) Error() string {
	given := strings.TrimSpace(e.flag + " " + e.value)
	return fmt.Sprintf("%s: %v\n  %s", given, e.err, e.remedy)
}

func (e *usageError) Unwrap() error { return e.err }

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	newCert := func() (tls.Certificate, error) { return devcert.New() }
	proc.Child( // ends here in a process that the bench has started
		closerace.Roles(newCert), decode.Roles(), idle.Roles(newCert), netlab.Roles(), recv.Roles(), soak.Roles(), transfer.Roles(newCert), uploads.Roles(newCert, newStorage))
	var c cli
	parser, err := kong.New(&c,
		kong.Name("tailfin"),
		kong.Description("Receive QUIC through io_uring; decode HTTP/3 so that the last bytes are never lost."),
		kong.UsageOnError(),
		benchVars, config.Vars(),
		kong.PostBuild(func(k *kong.Kong) error {
			for _, n := range k.Model.Children {
				if n.Name == "serve" {
					config.NameEnv(n.Flags)
				}
			}
			return nil
		}),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, "tailfin:", err)
		return exitFailed
	}
	kongplete.Complete(parser) // ends here if a shell asks what may follow
	if len(args) == 0 {
		args = []string{"--help"}
	}
	kctx, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "tailfin: %v\n  tailfin --help lists commands, tailfin COMMAND --help their flags\n", err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once, unless serve takes it
	kctx.BindTo(c.Bench.order(ctx), (*context.Context)(nil))
	kctx.Bind(commandArgs(args[1:]))
	return exitCode(kctx.Run())
}

// exitCode reports err, if any, and says how to exit.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(os.Stderr, "tailfin:", strings.TrimPrefix(err.Error(), "tailfin: "))
	var usage *usageError
	var setting *config.Error
	if errors.As(err, &usage) || errors.As(err, &setting) {
		return exitUsage
	}
	return exitFailed
}
