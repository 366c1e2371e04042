package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/tailfin-quic/tailfin/bench/check"
	"github.com/tailfin-quic/tailfin/bench/report"
)

// benchCheckCmd is `tailfin bench check`.
type benchCheckCmd struct {
	Files []string `arg:"" type:"existingfile" help:"JSON of tailfin bench, of one machine."`
	JSON  bool     `name:"json" help:"Print one JSON object."`
}

// Run says what is reached, and fails unless all is.
func (c *benchCheckCmd) Run(parent *benchCmd) error {
	d, err := report.ReadFiles(c.Files...)
	if err != nil {
		return &usageError{"bench check", "", err, "give files that tailfin bench --json has written"}
	}
	verdicts := check.Run(d)
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	files, err := openBenchFiles("", parent.HTML, parent.Text)
	if err != nil {
		return err
	}
	defer files.cleanup()
	if err := files.write(text); err != nil {
		return err
	}
	switch {
	case c.JSON:
		out := json.NewEncoder(os.Stdout)
		out.SetEscapeHTML(false)
		err = out.Encode(struct {
			Reached  bool             `json:"reached"`
			Warnings []string         `json:"warnings,omitempty"`
			Targets  []report.Verdict `json:"targets"`
		}{report.Reached(verdicts), d.Warnings, verdicts})
	case !files.toStdout():
		err = printVerdicts(os.Stdout, d.Warnings, verdicts)
	}
	if err != nil {
		return err
	}
	if !report.Reached(verdicts) {
		return fmt.Errorf("not all targets are reached: %d short, %d missing", report.Count(verdicts, report.Short), report.Count(verdicts, report.Missing))
	}
	return nil
}

// printVerdicts prints two lines for each target: the result, and what it is about.
func printVerdicts(out io.Writer, warnings []string, verdicts []report.Verdict) error {
	for _, warning := range warnings {
		fmt.Fprintf(out, "take care: %s\n", warning)
	}
	wide := 0
	for _, v := range verdicts {
		wide = max(wide, len(v.Name))
	}
	for _, v := range verdicts {
		result := v.Result
		if v.Aim {
			result += " (aim)"
		}
		fmt.Fprintf(out, "%-13s  %-*s  %-8s  %s\n    %s.\n", result, wide, v.Name, v.Bound, v.Found, v.Text)
		if v.Why != "" {
			fmt.Fprintf(out, "    %s: %s\n", v.Result, v.Why)
		}
	}
	_, err := fmt.Fprintf(out, "\n%d pass, %d short, %d missing\n", report.Count(verdicts, report.Pass), report.Count(verdicts, report.Short), report.Count(verdicts, report.Missing))
	return err
}
