package natssink

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/goleak"
)

// Variables of the environment that make the test binary another program.
const (
	asServer   = "TAILFIN_TEST_AS_NATS_SERVER"
	asUploader = "TAILFIN_TEST_AS_UPLOADER"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(asServer) != "":
		os.Exit(natsServer(os.Args[1:]))
	case os.Getenv(asUploader) != "":
		os.Exit(uploader(os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// natsServer is the main function of nats-server.
func natsServer(args []string) int {
	fs := flag.NewFlagSet("nats-server", flag.ExitOnError)
	opts, err := server.ConfigureOptions(fs, args, server.PrintServerAndExit, fs.Usage, server.PrintTLSHelpAndDie)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s, err := server.NewServer(opts)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s.ConfigureLogger()
	if err := server.Run(s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s.WaitForShutdown()
	return 0
}
