package main

import (
	"fmt"
	"os"

	"github.com/alecthomas/kong"
	mangokong "github.com/alecthomas/mango-kong"
	"github.com/muesli/roff"
)

// manCmd is `tailfin man`, for packages.
type manCmd struct{}

// Run prints the manual page in troff.
func (manCmd) Run(app *kong.Kong) error {
	model := *app.Model
	model.Help = "HTTP/3 receiver\n" + model.Help // the first line is the page's heading
	page := mangokong.NewManPage(1, &model)
	page.WithSection("Files", "/etc/tailfin/tailfin.yaml\n\nThe configuration that the service of the package reads; see serve --config, and tailfin config example.")
	page.WithSection("Environment", "Each flag of serve has a variable: TAILFIN_ and its name in capitals, as TAILFIN_MAX_BODY.\n\n"+
		"TAILFIN_DISABLE_URING, TAILFIN_DISABLE_GRO, TAILFIN_DISABLE_MODERATION, TAILFIN_DISABLE_EBPF: 1 switches that off, whatever flags say.")
	page.WithSection("Signals", "serve: TERM and INT finish the requests at work and exit, a second one cuts them off; HUP reads configuration and certificates again.")
	page.WithSection("Exit status", "0: done. 1: begun, and failed. 2: a flag, an argument or a file that it names is unusable; the message says which, why, and what to do.")
	_, err := fmt.Fprint(os.Stdout, page.Build(roff.NewDocument()))
	return err
}

// completionCmd is `tailfin completion`.
type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// completions have the shell ask the program itself: with COMP_LINE set it prints
// what may follow (complete -C of bash(1)).
var completions = map[string]string{
	"bash": "complete -C %[1]s tailfin\n",
	"zsh": "#compdef tailfin\nautoload -U +X bashcompinit && bashcompinit\n" +
		"complete -o nospace -C %[1]s tailfin\n",
	"fish": "function __complete_tailfin\n    set -lx COMP_LINE (commandline -cp)\n" +
		"    test -z (commandline -ct); and set COMP_LINE \"$COMP_LINE \"\n    %[1]s\nend\n" +
		"complete -f -c tailfin -a \"(__complete_tailfin)\"\n",
}

// Run prints the shell's code.
func (c *completionCmd) Run() error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	_, err = fmt.Printf(completions[c.Shell], exe)
	return err
}
