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

integration=faults,soak,bench,benchlog,cost,bulk,passload,rotation,passpeers,console # tags of its tests

go vet ./...
go vet -tags "$integration" ./integration
go vet -tags cluster,linearizability ./integration/cluster
go vet -tags modules ./hsm/conformance
go vet -tags registrations ./internal/store
go vet -tags manpages ./cmd/mintmark
go vet -tags benchbare ./hsm ./internal/audit ./cmd/mintmark
go vet -tags trace ./signer ./internal/provisioning ./cmd/mintmark ./integration

# Generated code and pages are current if making it again changes nothing.
generated="httpapi/openapi.gen.go httpapi/client/client.gen.go docs/commands.md docs/configuration.md docs/metrics.md"
before=$(cat $generated | cksum)
go generate ./...
if [ "$before" != "$(cat $generated | cksum)" ]; then
	echo "generated code or pages were not current; run make generate and commit them" >&2
	exit 1
fi

# staticcheck ARG...: all it finds, but for the style of generated code.
staticcheck() {
	go tool -modfile=tools/go.mod staticcheck "$@" | grep -v '^httpapi/.*\.gen\.go:' >&2 && return 1
	return 0
}

go tool -modfile=tools/go.mod staticcheck -version >/dev/null # a pipe would hide that it is not there
staticcheck -tags "$integration,cluster,linearizability" ./...
staticcheck -tags modules ./hsm/conformance
staticcheck -tags registrations ./internal/store
staticcheck -tags "trace,$integration" ./signer ./internal/provisioning ./cmd/mintmark ./integration
staticcheck -tags benchbare ./hsm ./internal/audit ./cmd/mintmark
