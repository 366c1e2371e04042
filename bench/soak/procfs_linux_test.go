package soak

import (
	"os"
	"testing"
	"time"
)

func TestReadProc(t *testing.T) {
	before, err := readProc(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if before[fieldRSS] < 1<<20 || before[fieldPeak] < before[fieldRSS] || before[fieldThreads] < 1 || before[fieldFDs] < 3 || before[fieldMaps] < 10 {
		t.Errorf("%v", before)
	}
	for range 20 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer w.Close()
	}
	for begin := time.Now(); time.Since(begin) < 100*time.Millisecond; { // ten units of the clock
	}
	after, err := readProc(os.Getpid())
	if err != nil || after[fieldFDs] < before[fieldFDs]+30 || after[fieldCPU] <= before[fieldCPU] {
		t.Errorf("%v, before %v: %v", after, before, err)
	}
	if _, err := readProc(1 << 30); err == nil {
		t.Error("a process that there is not")
	}
}
