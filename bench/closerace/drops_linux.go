package closerace

import (
	"os"
	"slices"
	"strconv"
	"strings"
)

// kernelDrops is how many datagrams the sockets of this network namespace had no room
// for, since it was made.
func kernelDrops() uint64 {
	text, err := os.ReadFile("/proc/self/net/snmp")
	if err != nil {
		return 0
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "Udp:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		if i := slices.Index(names, "RcvbufErrors"); i >= 0 && i < len(fields) {
			n, _ := strconv.ParseUint(fields[i], 10, 64)
			return n
		}
	}
	return 0
}
