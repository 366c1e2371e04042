#!/bin/sh
# Looks for known vulnerabilities in what the module's code can reach: its dependencies,
# and the standard library of go.mod's toolchain. The database (that of vuln.go.dev) is
# the Go module golang.org/x/vulndb, at the version VULNDB, so that a run can be
# repeated; "latest" is today's. Needs the Go module proxy, and nothing else.
set -eu
cd "$(dirname "$0")/.."
export GOTOOLCHAIN=auto # not an older one that the machine has
version=${VULNDB:-latest}
db=$(go mod download -json "golang.org/x/vulndb@$version" | sed -n 's/^.*"Dir": "\(.*\)",$/\1/p')
if [ ! -d "$db/data/osv" ]; then
	echo "vuln: no database golang.org/x/vulndb@$version" >&2
	exit 1
fi
echo "vuln: $(go version | cut -d' ' -f3), $(basename "$db"), $(ls "$db/data/osv" | wc -l) reports"
go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 -db "file://$db/data/osv" ./...
