#!/bin/sh
# Fuzzes every fuzz target of the project for the time given (default 30s) each.
set -eu

cd "$(dirname "$0")/.."
time=${1:-30s}

for package in $(go list ./...); do
	dir=$(go list -f '{{.Dir}}' "$package")
	for target in $(cat "$dir"/*_test.go 2>/dev/null | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p'); do
		echo "== $package $target"
		# Minimising long seeds would take all the time.
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 50x "$package"
	done
done
