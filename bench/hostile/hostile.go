// Package hostile keeps the accounts of tests in which the network, the kernel, a peer
// or the machine misbehaves: what was done, how often, what came of it, and which bound
// held. Such tests are named TestHostile….
//
// They run with every test run, in a size that suits it. With TAILFIN_HOSTILE=full in the
// environment they run in full, and with TAILFIN_HOSTILE_TABLE=FILE each result is a row of
// a Markdown table at the end of that file; make hostile does both.
package hostile

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

// A Result is what came of a fault or an attack. What is counted is 0 if all is well.
type Result struct {
	Kind  string // network, kernel, machine, peer or client: who misbehaves
	Fault string // what happens, in a few words
	Tries int    // times that it happened, or that something was tried while it did

	Lost    int // what was promised to be stored or delivered and was not
	Corrupt int // what was stored or delivered otherwise than it was sent
	Leaked  int // descriptors, goroutines, buffers, files and connections that were left
	Crashed int // processes that ended or panicked, and calls that never returned

	Bound string // what was observed to be bounded, with figures: "17 MB, 32 handshakes (32)"
}

// Report fails the test if anything is lost, corrupt, leaked or crashed, or if nothing was
// tried, and says so in a row.
func (r Result) Report(t testing.TB) {
	t.Helper()
	row := r.row()
	t.Log(row)
	if err := appendRow(row); err != nil {
		t.Error(err)
	}
	if r.Tries <= 0 {
		t.Errorf("%s: nothing was tried", r.Fault)
	}
	if r.Lost != 0 || r.Corrupt != 0 || r.Leaked != 0 || r.Crashed != 0 {
		t.Errorf("%s: %d lost, %d corrupt, %d leaked, %d crashed", r.Fault, r.Lost, r.Corrupt, r.Leaked, r.Crashed)
	}
	if r.Kind == "" || r.Fault == "" || r.Bound == "" {
		t.Errorf("a row without kind, fault or bound: %s", row)
	}
}

// row is one of a Markdown table.
func (r Result) row() string {
	cell := strings.NewReplacer("|", "\\|", "\n", " ").Replace
	return fmt.Sprintf("| %s | %s | %d | %d | %d | %d | %d | %s |",
		cell(r.Kind), cell(r.Fault), r.Tries, r.Lost, r.Corrupt, r.Leaked, r.Crashed, cell(r.Bound))
}

var appending sync.Mutex

// appendRow adds a row to the file that the environment names, if it does. Other test
// programs add theirs: a row is written at once.
func appendRow(row string) error {
	name := os.Getenv("TAILFIN_HOSTILE_TABLE")
	if name == "" {
		return nil
	}
	appending.Lock()
	defer appending.Unlock()
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(row + "\n")
	return err
}

// Size is how much a test does: usual in a usual run, full if all is wanted.
func Size(usual, full int) int {
	if os.Getenv("TAILFIN_HOSTILE") == "full" {
		return full
	}
	return usual
}
