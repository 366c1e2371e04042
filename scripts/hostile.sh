#!/bin/sh
# Runs the tests in which network, kernel, peers and machine misbehave, in full, and
# prints what came of each as a table. Arguments are for go test (-race, packages).
set -eu
cd "$(dirname "$0")/.."
table=$(mktemp)
trap 'rm -f "$table"' EXIT
status=0
[ "$#" -gt 0 ] || set -- ./...
TAILFIN_HOSTILE=full TAILFIN_HOSTILE_TABLE="$table" go test -count 1 -p 1 -timeout 60m -run '^TestHostile' "$@" || status=$?
echo
echo '| who | fault or attack | tries | lost | corrupt | leaked | crashed | bound observed |'
echo '|---|---|---|---|---|---|---|---|'
sort "$table"
[ -s "$table" ] || { echo "hostile: no test has reported" >&2; exit 1; }
exit "$status"
