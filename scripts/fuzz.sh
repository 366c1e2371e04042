#!/bin/sh
# Runs every fuzz target of the module for FUZZTIME each, a number of runs (20000x) or a time (10m), one after the other
# (go test takes one target at a time).
set -eu
time=${FUZZTIME:-20000x}
targets=0
for dir in $(go list -f '{{.Dir}}' ./...); do
	for target in $(cd "$dir" && cat ./*_test.go 2>/dev/null | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p'); do
		echo "fuzz $target for $time in $dir"
		(cd "$dir" && go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" .)
		targets=$((targets + 1))
	done
done
if [ "$targets" -eq 0 ]; then
	echo "fuzz: no targets found" >&2
	exit 1
fi
echo "fuzz: $targets targets, $time each"
