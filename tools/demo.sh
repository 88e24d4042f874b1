#!/bin/sh
# Runs a development server, the whole journey against it, and stops it. One that runs in the
# directory already is left alone.
# usage: tools/demo.sh BINARY DATA-DIRECTORY
set -eu

bin=$1
data=$2
log=$data/demo.log

mkdir -p "$data"
"$bin" dev --data "$data" --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 >"$log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT INT TERM

waited=0
# Another server's dev.json may be there, of one that runs or was killed.
until grep -q "\"pid\": $server,\{0,1\}\$" "$data/dev.json" 2>/dev/null; do
	if ! kill -0 "$server" 2>/dev/null || [ "$waited" -ge 1800 ]; then
		echo "the development server did not become ready; its log:" >&2
		cat "$log" >&2
		echo "where one runs in $data already: $bin demo --data $data" >&2
		exit 1
	fi
	sleep 0.1
	waited=$((waited + 1))
done

status=0
"$bin" demo --data "$data" || status=$?
kill "$server"
trap - EXIT
stopped=0
wait "$server" || stopped=$?
if [ "$status" -ne 0 ] || [ "$stopped" -ne 0 ]; then
	echo "demo: journey $status, server stopped with $stopped; log in $log" >&2
	exit 1
fi
