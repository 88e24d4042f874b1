#!/bin/sh
# gofmt, go vet, generated code, staticcheck: each says what to do.
set -eu

cd "$(dirname "$0")/.."

unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
	echo "not gofmt'd; run gofmt -w on:" >&2
	echo "$unformatted" >&2
	exit 1
fi

go vet ./...
go vet -tags faults,soak,bench,benchlog,bulk,passload,rotation,passpeers ./integration
go vet -tags modules ./hsm/conformance
go vet -tags manpages ./cmd/mintmark
go vet -tags benchbare ./hsm ./internal/audit ./cmd/mintmark
go vet -tags trace ./signer ./internal/provisioning ./cmd/mintmark ./integration

# Generated code is current if making it again changes nothing.
before=$(cat httpapi/openapi.gen.go | cksum)
go generate ./...
if [ "$before" != "$(cat httpapi/openapi.gen.go | cksum)" ]; then
	echo "generated code was not current; run make generate and commit it" >&2
	exit 1
fi

# staticcheck ARG...: all it finds, but for the style of generated code.
staticcheck() {
	go tool -modfile=tools/go.mod staticcheck "$@" | grep -v '^httpapi/openapi\.gen\.go:' >&2 && return 1
	return 0
}

go tool -modfile=tools/go.mod staticcheck -version >/dev/null # a pipe would hide that it is not there
staticcheck -tags faults,soak,bench,benchlog,bulk,passload,rotation,passpeers ./...
staticcheck -tags modules ./hsm/conformance
staticcheck -tags trace,faults,soak,bench,benchlog,bulk,passload,rotation,passpeers ./signer ./internal/provisioning ./cmd/mintmark ./integration
staticcheck -tags benchbare ./hsm ./internal/audit ./cmd/mintmark
