#!/bin/sh
# Puts and gets files over bad networks, in full, and prints what came of each as a table.
# An argument chooses some of them, by a regular expression: scripts/lab.sh loss
set -eu
exec "$(dirname "$0")/hostile.sh" -run "^TestHostileLab\$/${1:-}" ./cmd/tailfin
