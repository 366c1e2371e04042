package main

import (
	"fmt"
	"os"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/config"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/service"
)

// configCmd is `tailfin config`.
type configCmd struct {
	Check   configCheckCmd   `cmd:"" help:"Say what is wrong with a configuration file; exit 2 if anything is."`
	Example configExampleCmd `cmd:"" help:"Print a configuration file with every key, explained."`
	Show    configShowCmd    `cmd:"" help:"Print the configuration that serve would have with these flags, this environment and this file."`
}

type configCheckCmd struct {
	File string `arg:"" placeholder:"FILE" help:"The YAML file of serve --config."`
}

// Run checks the file.
func (c *configCheckCmd) Run() error {
	loaded, keys, err := config.ParseFile(c.File)
	if err != nil {
		return err
	}
	if err := service.Check(loaded); err != nil {
		return err
	}
	fmt.Printf("%s is good: %d keys\n", c.File, keys)
	return nil
}

type configExampleCmd struct{}

// Run prints the example.
func (configExampleCmd) Run() error {
	text, err := config.Example()
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(text)
	return err
}

type configShowCmd struct {
	Args []string `arg:"" optional:"" passthrough:"" placeholder:"FLAG" help:"Flags of serve."`
}

// Run prints what is in effect.
func (c *configShowCmd) Run() error {
	loaded, err := config.Parse(c.Args)
	if err != nil {
		return err
	}
	text, err := loaded.YAML()
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(text)
	return err
}
