#!/bin/sh
# Runs the tests of the system calls as a 32-bit program, whose structures differ.
# An amd64 kernel may run such programs, and some virtual machines' do not: there
# the tests are only compiled, and this says so.
set -eu
cd "$(dirname "$0")/.."
if [ "$(go env GOHOSTARCH)" != amd64 ]; then
	echo "test-32bit: not run, needs an amd64 machine"
	exit 0
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
printf 'package main\n\nfunc main() {}\n' >"$dir/main.go"
GOARCH=386 go build -o "$dir/probe" "$dir/main.go"
if "$dir/probe" 2>/dev/null; then
	# The race detector, which looks after pointers too (checkptr), has no 32-bit form.
	GOARCH=386 scripts/test.sh -short -gcflags=github.com/tailfin-quic/tailfin/...=-d=checkptr ./uring ./udp
else
	echo "test-32bit: compiled and not run: this kernel executes no 32-bit programs (IA32 emulation)"
	GOARCH=386 go vet ./uring ./udp
fi
