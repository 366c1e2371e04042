#!/bin/sh
# Runs `go test` with the given arguments through gotestsum, and lists what was
# skipped and why. With CI=true a skip fails the run: the machine of CI has all
# that the tests need, so that a skip there means they have stopped testing.
set -eu
cd "$(dirname "$0")/.."
mkdir -p bin
# A program with the race detector sleeps for a second when it ends, and the tests of
# the command run hundreds.
export GORACE="atexit_sleep_ms=50 ${GORACE:-}"
log=bin/test.json
# go vet has a target of its own.
go run gotest.tools/gotestsum@v1.13.0 --format pkgname --hide-summary=skipped --jsonfile "$log" -- -vet=off -timeout 25m "$@"
skips=$(grep -c '"Action":"skip","Package":"[^"]*","Test"' "$log" || true)
[ "$skips" -eq 0 ] && exit 0
echo "$skips tests were skipped:"
# The reason is the output line before the "--- SKIP" line of its test.
sed -n 's/.*"Action":"output".*"Test":"\([^"]*\)".*"Output":" *\([a-z_0-9]*_test\.go:[0-9]*: .*\)\\n".*/  \1: \2/p' "$log" |
	grep -F "$(grep '"Action":"skip"' "$log" | sed -n 's/.*"Test":"\([^"]*\)".*/\1: /p')" || true
if [ "${CI:-}" = true ]; then
	echo "CI runs every test; see above for what it could not" >&2
	exit 1
fi
