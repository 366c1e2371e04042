package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/tailfin-quic/tailfin/udp"
)

// doctorCmd is `tailfin doctor`.
type doctorCmd struct {
	JSON bool `name:"json" help:"Print one JSON object."`
}

// finding is something to change.
type finding struct {
	What   string `json:"what"`
	Remedy string `json:"remedy"`
}

// Run looks at the machine, and says what it found.
func (c *doctorCmd) Run() error {
	report, err := udp.Probe()
	if err != nil {
		return err
	}
	findings := diagnose(report)
	if c.JSON {
		return json.NewEncoder(os.Stdout).Encode(struct {
			udp.Report
			Change []finding `json:"change"`
		}{report, findings})
	}
	return printReport(os.Stdout, report, findings)
}

// diagnose lists what keeps this machine from receiving as it could.
func diagnose(r udp.Report) []finding {
	findings := []finding{}
	if !r.URing {
		remedy := r.URingRemedy
		if remedy == "" {
			remedy = "the recvmmsg fallback serves until then"
		}
		findings = append(findings, finding{r.URingBlocker, remedy})
	}
	if !r.GRO {
		findings = append(findings, finding{"the kernel does not hand over trains of datagrams (UDP_GRO)", "use Linux 5.0 or later"})
	}
	if !r.GSO {
		findings = append(findings, finding{"the kernel does not take trains of datagrams (UDP_SEGMENT)", "use Linux 4.18 or later"})
	}
	if r.ReadBuffer < udp.WantReadBuffer {
		findings = append(findings, finding{
			fmt.Sprintf("a socket gets a receive buffer of %d bytes, and quic-go wants %d", r.ReadBuffer, udp.WantReadBuffer),
			fmt.Sprintf("sysctl -w net.core.rmem_max=%d, or give the program CAP_NET_ADMIN", udp.WantReadBuffer),
		})
	}
	return findings
}

func printReport(w io.Writer, r udp.Report, findings []finding) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(t, "%s\t%s\n", name, value) }
	row("system", r.OS+" "+r.Kernel)
	if r.URing {
		row("io_uring", "works")
	} else {
		row("io_uring", "no: "+r.URingBlocker)
	}
	row("GRO", yesNo(r.GRO))
	row("GSO", yesNo(r.GSO))
	row("ECN", yesNo(r.ECN))
	row("receive buffer", fmt.Sprintf("%d bytes (rmem_max %d)", r.ReadBuffer, r.ReadBufferMax))
	row("backend auto", r.Backend+": "+r.Reason)
	if err := t.Flush(); err != nil {
		return err
	}
	if len(findings) == 0 {
		fmt.Fprintln(w, "\nNothing to change.")
		return nil
	}
	fmt.Fprintln(w, "\nTo change:")
	for _, f := range findings {
		fmt.Fprintf(w, "  %s\n    %s\n", f.What, f.Remedy)
	}
	return nil
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
