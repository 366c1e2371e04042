#!/bin/sh
# Before the package is removed, but not when it is upgraded ("upgrade" on Debian, a
# number above 0 with RPM).
set -e
case "${1:-remove}" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl disable --now tailfin.service tailfin.socket
	fi
	;;
esac
