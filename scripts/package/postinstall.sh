#!/bin/sh
# After the package is installed: the units are known, and a running daemon is
# replaced. It is not enabled by itself: it would receive from the network.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl try-restart tailfin.service
	sysctl -q -p /usr/lib/sysctl.d/60-tailfin.conf || true
fi
