package netlab

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/tailfin-quic/tailfin/bench/proc"
)

// What processes of these tests do.
const (
	roleWhere = "test-where" // says which namespace it is in
	roleLab   = "test-lab"   // opens labs, says which namespaces and processes they have, and waits
)

var testRoles = map[string]proc.Role{
	roleWhere: func(_ json.RawMessage, _ io.Reader, out io.Writer) error {
		is, err := os.Readlink("/proc/self/ns/net")
		if err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(is)
	},
	roleLab: holdLabs,
}

func panicsNot() { runtime.Goexit() }

// child is the namespace that a process says it is in.
func child(t *testing.T, at proc.Place) string {
	t.Helper()
	cmd, err := proc.Command(t.Context(), roleWhere, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := proc.Start(cmd, at)
	if err != nil {
		t.Fatal(err)
	}
	var is string
	if err := p.Last(&is); err != nil {
		t.Fatal(err)
	}
	return is
}

func holdLabs(_ json.RawMessage, in io.Reader, out io.Writer) error {
	var labs []*Lab // which their files end with
	var namespaces []uint64
	for _, p := range append(slices.Collect(maps.Values(profiles)), Profile{Emulator: Wire, Process: true}) {
		lab, err := Build(context.Background(), p)
		if err != nil {
			return err
		}
		labs = append(labs, lab)
		cookies, err := namespacesOf(lab)
		if err != nil {
			return err
		}
		namespaces = append(namespaces, cookies...)
	}
	if err := json.NewEncoder(out).Encode(namespaces); err != nil {
		return err
	}
	_, err := io.ReadAll(in)
	runtime.KeepAlive(labs)
	return err
}
