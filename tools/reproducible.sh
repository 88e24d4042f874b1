#!/bin/sh
# Builds the committed sources twice, from clones in two directories with names of different
# length, at two times, each with an empty build cache, by make build as everybody does, and
# compares. The same sources, Go, C compiler and C library give the same bytes.
set -eu

cd "$(dirname "$0")/.."
commit=$(git rev-parse HEAD) # of both, whatever is committed meanwhile
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT INT TERM

build() { # DIRECTORY
	git clone -q --no-checkout . "$1"
	git -C "$1" checkout -q --detach "$commit"
	GOCACHE="$1.cache" make -s -C "$1" build # beside it: a file in it that git does not know would stand in the binary
	sha256sum "$1/bin/mintmark" | cut -d' ' -f1
}

one=$(build "$work/a")
two=$(TZ=Pacific/Auckland LC_ALL=C build "$work/another-directory/with-a-longer-name")
echo "$one  $(go version | cut -d' ' -f3,4), $(gcc -dumpfullversion 2>/dev/null || echo cc), first build"
echo "$two  second build"
if [ "$one" != "$two" ]; then
	cmp "$work/a/bin/mintmark" "$work/another-directory/with-a-longer-name/bin/mintmark" || true
	echo "reproducible: the builds differ" >&2
	exit 1
fi
