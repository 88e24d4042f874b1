#!/bin/sh
# Holds the systemd unit against systemd-analyze, offline: no errors, and an exposure of 2.0
# (of 10) at most. usage: tools/unitcheck.sh BINARY
set -eu

bin=$(realpath "$1")
cd "$(dirname "$0")/.."
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# verify looks for the program where the unit says it is.
sed "s|/usr/bin/mintmark|$bin|" deploy/mintmark.service >"$tmp/mintmark.service"
systemd-analyze verify --man=no "$tmp/mintmark.service"
if ! systemd-analyze security --offline=true --no-pager --threshold=20 deploy/mintmark.service >"$tmp/said" 2>&1; then
	cat "$tmp/said" >&2
	exit 1
fi
tail -1 "$tmp/said"
