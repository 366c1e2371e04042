package bench

import (
	"bufio"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tailfin-quic/tailfin/udp"
)

// An Environment says where, when and with what figures were measured. What could not
// be told is empty or 0.
type Environment struct {
	Date string `json:"date"` // RFC 3339, when it was read: before the first run

	// The program. Version and Revision are those that the Go command has stamped on it.
	Version    string `json:"version"`
	Revision   string `json:"revision,omitempty"`          // of the version control
	Modified   bool   `json:"revision_modified,omitempty"` // built from files that were not committed
	Go         string `json:"go"`
	QUICGo     string `json:"quic_go"`
	XNet       string `json:"x_net,omitempty"`
	IOURingGo  string `json:"iouring_go,omitempty"`
	GOMAXPROCS int    `json:"gomaxprocs"`
	GOGC       string `json:"gogc"`       // a percentage, or off
	GOMEMLIMIT string `json:"gomemlimit"` // bytes, or off

	// The machine.
	OS             string `json:"os"`
	Arch           string `json:"arch"`
	Kernel         string `json:"kernel"`
	CPU            string `json:"cpu"`
	CPUs           int    `json:"cpus"`
	Governor       string `json:"cpu_governor,omitempty"` // of all processors; empty where the kernel does not set their clock
	Virtualisation string `json:"virtualisation,omitempty"`
	Memory         uint64 `json:"memory_bytes,omitempty"`
	PageIsolation  string `json:"meltdown,omitempty"` // with "Mitigation: PTI" each system call and interrupt costs more
	ClockSource    string `json:"clock_source,omitempty"`
	LoadAverage    string `json:"load_average,omitempty"` // over 1, 5 and 15 minutes, before the first run

	// Limits.
	OpenFiles           uint64 `json:"rlimit_nofile,omitempty"`
	ReadBufferMax       int    `json:"rmem_max,omitempty"`
	ReadBufferDefault   int    `json:"rmem_default,omitempty"`
	WriteBufferMax      int    `json:"wmem_max,omitempty"`
	WriteBufferDefault  int    `json:"wmem_default,omitempty"`
	NetdevMaxBacklog    int    `json:"netdev_max_backlog,omitempty"` // datagrams that wait for their processor, loopback's too
	ReadBufferOfAConn   int    `json:"read_buffer,omitempty"`        // what a udp.Conn gets that asks for udp.WantReadBuffer
	Backend             string `json:"backend,omitempty"`            // that udp.Auto takes
	BackendReason       string `json:"backend_reason,omitempty"`
	IOURing             bool   `json:"io_uring"`
	IOURingBlocker      string `json:"io_uring_blocker,omitempty"`
	GRO                 bool   `json:"gro"`
	GSO                 bool   `json:"gso"`
	ECN                 bool   `json:"ecn"`
	ProbeOfSocketsError string `json:"probe_error,omitempty"` // why the last ones are not known
}

// Environ reads the environment of this process. It opens sockets on loopback for it.
func Environ() Environment {
	e := Environment{
		Date: time.Now().Format(time.RFC3339),
		OS:   runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(),
		GOMAXPROCS: runtime.GOMAXPROCS(0), Go: runtime.Version(),
		Kernel:             firstLine("/proc/sys/kernel/osrelease"),
		Governor:           governors(),
		PageIsolation:      firstLine("/sys/devices/system/cpu/vulnerabilities/meltdown"),
		ClockSource:        firstLine("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
		ReadBufferMax:      number("/proc/sys/net/core/rmem_max"),
		ReadBufferDefault:  number("/proc/sys/net/core/rmem_default"),
		WriteBufferMax:     number("/proc/sys/net/core/wmem_max"),
		WriteBufferDefault: number("/proc/sys/net/core/wmem_default"),
		NetdevMaxBacklog:   number("/proc/sys/net/core/netdev_max_backlog"),
	}
	if load := strings.Fields(firstLine("/proc/loadavg")); len(load) >= 3 {
		e.LoadAverage = strings.Join(load[:3], " ")
	}
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) == nil {
		e.OpenFiles = uint64(files.Cur) //nolint:unconvert // signed on some systems
	}
	e.processor()
	e.build()
	e.collector()
	e.sockets()
	return e
}

// processor reads the model and what else Linux says of processors and memory.
func (e *Environment) processor() {
	for name, value := range fields("/proc/cpuinfo") {
		switch name {
		case "model name":
			if e.CPU == "" {
				e.CPU = value
			}
		case "flags":
			if e.Virtualisation == "" && strings.Contains(" "+value+" ", " hypervisor ") {
				e.Virtualisation = "virtual machine"
			}
		}
	}
	// Who made a virtual machine, where the firmware tells.
	if vendor := firstLine("/sys/class/dmi/id/sys_vendor"); e.Virtualisation != "" && vendor != "" {
		e.Virtualisation += " (" + vendor + ")"
	}
	for name, value := range fields("/proc/meminfo") {
		if kib, ok := strings.CutSuffix(value, " kB"); ok && name == "MemTotal" {
			n, _ := strconv.ParseUint(kib, 10, 64)
			e.Memory = n << 10
		}
	}
}

// build reads what the Go command has left in the program.
func (e *Environment) build() {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return
	}
	e.Version = info.Main.Version
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			e.Revision = s.Value
		case "vcs.modified":
			e.Modified = s.Value == "true"
		}
	}
	for _, dep := range info.Deps {
		switch dep.Path {
		case "github.com/quic-go/quic-go":
			e.QUICGo = dep.Version
		case "golang.org/x/net":
			e.XNet = dep.Version
		case "github.com/iceber/iouring-go":
			e.IOURingGo = dep.Version
		}
	}
}

// collector reads the goals of the garbage collector: those of this process, and of
// the processes that a scenario starts unless it gives them others.
func (e *Environment) collector() {
	s := []metrics.Sample{{Name: "/gc/gogc:percent"}, {Name: "/gc/gomemlimit:bytes"}}
	metrics.Read(s)
	e.GOGC, e.GOMEMLIMIT = "off", "off"
	if v := s[0].Value; v.Kind() == metrics.KindUint64 && v.Uint64() < math.MaxInt32 {
		e.GOGC = strconv.FormatUint(v.Uint64(), 10)
	}
	if v := s[1].Value; v.Kind() == metrics.KindUint64 && v.Uint64() < math.MaxInt64 {
		e.GOMEMLIMIT = strconv.FormatUint(v.Uint64(), 10)
	}
}

// sockets tries what tailfin doctor tries.
func (e *Environment) sockets() {
	r, err := udp.Probe()
	if err != nil {
		e.ProbeOfSocketsError = err.Error()
	}
	e.Backend, e.BackendReason = r.Backend, r.Reason
	e.IOURing, e.IOURingBlocker = r.URing, r.URingBlocker
	e.GRO, e.GSO, e.ECN, e.ReadBufferOfAConn = r.GRO, r.GSO, r.ECN, r.ReadBuffer
}

// governors lists what sets the clocks of the processors, each once.
func governors() string {
	var list []string
	seen := map[string]bool{}
	files, _ := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")
	for _, file := range files {
		if g := firstLine(file); g != "" && !seen[g] {
			seen[g] = true
			list = append(list, g)
		}
	}
	return strings.Join(list, ", ")
}

// firstLine is that of a file, empty where there is none.
func firstLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line)
}

func number(path string) int {
	n, _ := strconv.Atoi(firstLine(path))
	return n
}

// fields are the lines "name: value" of a file.
func fields(path string) func(yield func(name, value string) bool) {
	return func(yield func(name, value string) bool) {
		f, err := os.Open(path)
		if err != nil {
			return
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			name, value, ok := strings.Cut(lines.Text(), ":")
			if ok && !yield(strings.TrimSpace(name), strings.TrimSpace(value)) {
				return
			}
		}
	}
}
