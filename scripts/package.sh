#!/bin/sh
# Builds bin/tailfin_VERSION_ARCH.deb (FORMAT=rpm: an RPM), with manual page,
# completion, units and an example of the configuration.
set -eu
cd "$(dirname "$0")/.."
nfpm=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.44.2
format=${FORMAT:-deb}
version=${VERSION:-$(git describe --tags --always --dirty 2>/dev/null || echo devel)}
ARCH=$(go env GOARCH)
# Versions of packages begin with a digit; a commit without a tag before it has 0.
case $version in
v[0-9]*) PACKAGE_VERSION=${version#v} ;;
*) PACKAGE_VERSION=0.0.0~$version ;;
esac
stage=bin/package # where scripts/package/nfpm.yaml takes it from
rm -rf "$stage"
mkdir -p "$stage/completion"
export ARCH PACKAGE_VERSION

CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$version" -o "$stage/tailfin" ./cmd/tailfin
"$stage/tailfin" man | gzip -9n >"$stage/tailfin.1.gz"
# What an operator would set first is set; the rest is there to be read.
{
	printf 'listen: ":4433"\nsink: dir:/var/lib/tailfin/received\nadmin: 127.0.0.1:9433\n\n'
	"$stage/tailfin" config example
} >"$stage/tailfin.yaml"
for shell in bash zsh fish; do
	"$stage/tailfin" completion "$shell" | sed "s|[^ ]*/$stage/tailfin|/usr/bin/tailfin|" >"$stage/completion/tailfin.$shell"
done
rm -f bin/tailfin_*."$format" bin/tailfin-*."$format"
go run "$nfpm" package --config scripts/package/nfpm.yaml --packager "$format" --target bin/
