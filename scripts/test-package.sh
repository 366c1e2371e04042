#!/bin/sh
# Builds the Debian package and proves it: what is in it, that systemd takes the
# units, that the manual page renders, that completion answers. With CI=true and as
# root it is installed on this machine, used, and purged.
set -eu
cd "$(dirname "$0")/.."
for tool in dpkg-deb systemd-analyze man; do
	if ! command -v "$tool" >/dev/null; then
		echo "test-package: not run, there is no $tool (Debian packages dpkg, systemd, man-db)"
		[ "${CI:-}" != true ]
		exit
	fi
done
scripts/package.sh
deb=$(ls bin/tailfin_*.deb)
root=$(mktemp -d)
# root is below /tmp, and is what a chroot of the package would be
trap 'rm -rf "$root"' EXIT
fail() {
	echo "test-package: $*" >&2
	exit 1
}
dpkg-deb -x "$deb" "$root"

# The units, as if their program were installed.
unit=$root/usr/lib/systemd/system/tailfin.service
sed "s|/usr/bin/tailfin|$root/usr/bin/tailfin|" "$unit" >"$root/tailfin.service"
sed 's|^Documentation=.*||' "$root/usr/lib/systemd/system/tailfin.socket" >"$root/tailfin.socket"
sed -i '/^Documentation=/d' "$root/tailfin.service"
SYSTEMD_UNIT_PATH="$root:" systemd-analyze verify "$root/tailfin.service" "$root/tailfin.socket" || fail "systemd refuses the units"
systemd-analyze security --offline=true --threshold=20 "$unit" >"$root/security" || { cat "$root/security"; fail "the unit is exposed more than 2.0"; }
tail -n 1 "$root/security"

# The manual page, with no complaint of the formatter.
MANWIDTH=100 man --warnings=w -l "$root/usr/share/man/man1/tailfin.1.gz" >"$root/page" 2>"$root/warnings"
[ ! -s "$root/warnings" ] || { cat "$root/warnings"; fail "the manual page has errors"; }
for word in serve put get --max-body TAILFIN_MAX_BODY; do
	grep -q -- "$word" "$root/page" || fail "the manual page does not have $word"
done

# The configuration that comes with it, and completion.
"$root/usr/bin/tailfin" config check "$root/etc/tailfin/tailfin.yaml"
COMP_LINE="tailfin serve --max-b" "$root/usr/bin/tailfin" | grep -qx -- --max-body || fail "no completion of --max-b"

if [ "${CI:-}" != true ] || [ "$(id -u)" -ne 0 ]; then
	echo "test-package: not installed, which CI does as root"
	exit 0
fi
dpkg -i "$deb"
purge() {
	dpkg --purge tailfin
	rm -rf "$root"
}
trap purge EXIT
[ "$(command -v tailfin)" = /usr/bin/tailfin ] || fail "the program is not where it should be"
tailfin version
man -w tailfin >/dev/null || fail "there is no manual page"
bash -c '. /usr/share/bash-completion/completions/tailfin && complete -p tailfin'

# The service's own command line, without the service manager.
mkdir "$root/received"
TAILFIN_LISTEN=127.0.0.1:0 TAILFIN_ADMIN= TAILFIN_SINK=dir:$root/received tailfin serve --config /etc/tailfin/tailfin.yaml 2>"$root/log" &
daemon=$!
for _ in $(seq 100); do
	grep -q '^ready ' "$root/log" && break
	sleep 0.1
done
listen=$(sed -n 's/^ready listen=\([^ ]*\).*/\1/p' "$root/log")
[ -n "$listen" ] || { cat "$root/log"; fail "the installed daemon is not ready"; }
tailfin put README.md "https://$listen/readme" --insecure
cmp README.md "$root/received/readme"
kill -TERM "$daemon"
wait "$daemon" || { cat "$root/log"; fail "the installed daemon did not stop in good order"; }
echo "test-package: installed, used, stopped"
