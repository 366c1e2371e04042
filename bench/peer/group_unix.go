//go:build unix

package peer

import (
	"os/exec"
	"syscall"
)

// ownGroup puts the program in a process group of its own and makes
// cancellation end the group: a browser is a dozen processes.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
