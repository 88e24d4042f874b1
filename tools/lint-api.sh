#!/bin/sh
# Holds httpapi/openapi.yaml against Redocly's rules. npm fetches Redocly, pinned by
# tools/npm/package-lock.json, once; the lint itself asks nobody anything.
set -eu

cd "$(dirname "$0")/npm"

command -v npm >/dev/null || {
	echo "lint-api: please install npm, with Node.js 20.19 or later" >&2
	exit 1
}
# npm writes this file when it is done. For dash nothing is newer than a file that is not there.
installed=node_modules/.package-lock.json
if [ ! -e "$installed" ] || [ package-lock.json -nt "$installed" ]; then
	npm ci --ignore-scripts --no-audit --no-fund --silent
fi
REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true \
	node_modules/.bin/redocly lint --config redocly.yaml ../../httpapi/openapi.yaml
