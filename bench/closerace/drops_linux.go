package closerace

import (
	"os"
	"strconv"
	"strings"
)

// socketDrops is how many datagrams the UDP sockets of this process had no room for,
// those that are open now.
func socketDrops() (drops uint64) {
	own := make(map[string]bool)
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, "socket:[") {
			own[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")] = true
		}
	}
	// Columns of /proc/net/udp (Linux 2.6.27 and later).
	const inode, dropped, columns = 9, 12, 13
	for _, table := range []string{"udp", "udp6"} {
		text, err := os.ReadFile("/proc/self/net/" + table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) >= columns && own[f[inode]] {
				n, _ := strconv.ParseUint(f[dropped], 10, 64)
				drops += n
			}
		}
	}
	return drops
}
