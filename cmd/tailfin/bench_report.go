package main

import (
	"encoding/json"

	"github.com/tailfin-quic/tailfin/bench/report"
)

// benchReportCmd is `tailfin bench report`.
type benchReportCmd struct {
	Files []string `arg:"" type:"existingfile" help:"JSON of tailfin bench, of one machine."`
	JSON  string   `name:"json" placeholder:"FILE" help:"Write all rows to one file, - for standard output."`
}

// Run makes the reports that are asked for; text for benchstat if none is.
func (c *benchReportCmd) Run(parent *benchCmd) error {
	d, err := report.ReadFiles(c.Files...)
	if err != nil {
		return &usageError{"bench report", "", err, "give files that tailfin bench --json has written"}
	}
	text, err := json.MarshalIndent(d, "", " ")
	if err != nil {
		return err
	}
	if c.JSON == "" && parent.HTML == "" && parent.Text == "" {
		parent.Text = "-"
	}
	files, err := openBenchFiles(c.JSON, parent.HTML, parent.Text)
	if err != nil {
		return err
	}
	defer files.cleanup()
	return files.write(text)
}
