#!/bin/sh
# After the package is removed. What was received in /var/lib/tailfin stays.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
