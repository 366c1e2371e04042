package soak

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// userHz is the unit of times in /proc/PID/stat (proc_pid_stat(5)), which is the same
// everywhere that Go runs.
const userHz = 100

// readProc reads what the kernel knows of a process: also of one that is stopped.
func readProc(pid int) (sample, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return nil, err
	}
	s := sample{}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		field := map[string]string{"VmRSS": fieldRSS, "VmHWM": fieldPeak, "Threads": fieldThreads}[name]
		if field == "" {
			continue
		}
		var n float64
		if _, err := fmt.Sscan(value, &n); err != nil {
			return nil, fmt.Errorf("%s of %s/status: %w", name, dir, err)
		}
		if strings.HasPrefix(name, "Vm") {
			n *= 1024
		}
		s[field] = n
	}
	if len(s) != 3 {
		return nil, fmt.Errorf("%s/status has not what is wanted of it; has the process ended?", dir)
	}
	fds, err := os.ReadDir(dir + "/fd")
	if err != nil {
		return nil, err
	}
	maps, err := os.ReadFile(dir + "/maps")
	if err != nil {
		return nil, err
	}
	s[fieldFDs], s[fieldMaps] = float64(len(fds)), float64(bytes.Count(maps, []byte("\n")))
	if s[fieldCPU], err = cpuOf(dir); err != nil {
		return nil, err
	}
	return s, nil
}

// cpuOf is the processor time of a process, in seconds.
func cpuOf(dir string) (float64, error) {
	text, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return 0, err
	}
	// The name of the program, in brackets, may have anything in it.
	_, after, _ := strings.Cut(string(text[bytes.LastIndexByte(text, ')'):]), " ")
	fields := strings.Fields(after)
	const utime, stime = 11, 12 // of those that follow the name
	if len(fields) <= stime {
		return 0, fmt.Errorf("%s/stat: %q", dir, text)
	}
	sum := 0.0
	for _, i := range []int{utime, stime} {
		n, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return 0, fmt.Errorf("%s/stat: %w", dir, err)
		}
		sum += n
	}
	return sum / userHz, nil
}
