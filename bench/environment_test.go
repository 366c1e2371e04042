package bench

import (
	"encoding/json"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestEnviron compares what Environ says with what can be had otherwise.
func TestEnviron(t *testing.T) {
	e := Environ()
	if _, err := time.Parse(time.RFC3339, e.Date); err != nil {
		t.Errorf("date: %v", err)
	}
	if e.GOGC != "100" && os.Getenv("GOGC") == "" {
		t.Errorf("GOGC %q", e.GOGC)
	}
	if e.GOMEMLIMIT == "" || e.OpenFiles == 0 {
		t.Errorf("memory limit %q, %d open files", e.GOMEMLIMIT, e.OpenFiles)
	}
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]any
	if err := json.Unmarshal(text, &keys); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"os", "arch", "kernel", "cpu", "cpus", "gomaxprocs", "go", "quic_go", "gro", "gso", "io_uring", "date", "gogc"} {
		if _, ok := keys[key]; !ok {
			t.Errorf("no %q in %s", key, text)
		}
	}
	if runtime.GOOS != "linux" {
		return
	}
	if e.Kernel == "" || e.Memory < 1<<26 || len(strings.Fields(e.LoadAverage)) != 3 {
		t.Errorf("kernel %q, %d bytes of memory, load %q", e.Kernel, e.Memory, e.LoadAverage)
	}
	if e.Backend == "" || e.BackendReason == "" || !e.GSO || e.ReadBufferOfAConn == 0 {
		t.Errorf("backend %q (%s), GSO %v, a read buffer of %d", e.Backend, e.BackendReason, e.GSO, e.ReadBufferOfAConn)
	}
	if e.ReadBufferMax == 0 && e.NetdevMaxBacklog == 0 {
		t.Error("no limits of the kernel")
	}
}
