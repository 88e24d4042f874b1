# mintmark: `make run` to try it, `make test` to test it, `make help` for the rest.

GO      ?= go
BIN     := bin/mintmark
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unversioned)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null)
DATA    ?= .mintmark
# runtime/secret erases what single-use keys leave in registers, stack and heap.
export GOEXPERIMENT := runtimesecret

.DEFAULT_GOAL := help
.PHONY: help run demo build test lint generate calls test-modules faults isolation bench-isolation soak bulk kills bench cost bench-log loadgen passload registrations rotation passpeers console-test lint-api cluster linearizability
.PHONY: check vulncheck sbom sbom-check reproducible
.PHONY: man deb deb-test unit-check unit-test alerts-check helm-check dockerfile-check fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-15s %s\n", $$1, $$2}' Makefile

run: softhsm build ## install SoftHSM if need be, build, and run the development server
	@tools/ensure.sh curl openssl # which the README's commands and the demo use
	@$(BIN) dev --data $(DATA)

demo: softhsm build ## run the development server, the whole journey against it, and stop
	@tools/ensure.sh openssl
	@tools/demo.sh $(BIN) $(DATA)

build: ## build bin/mintmark
	@tools/ensure.sh gcc
	@$(GO) build -trimpath -ldflags "-X main.version=$(VERSION) -X main.revision=$(REVISION)" -o $(BIN) ./cmd/mintmark

loadgen: ## build bin/loadgen, which puts a constant load on a running server
	@$(GO) build -trimpath -o bin/loadgen ./cmd/loadgen

test: softhsm ## run every test, from scratch
	@tools/ensure.sh gcc node openssl ssh-keygen curl nss postgresql haproxy
	$(GO) test -race -count=1 -timeout 30m ./... # ten minutes a package, the usual, are not enough on a busy machine
	$(GO) test -race -count=1 -tags trace -run Trace ./signer ./internal/provisioning ./integration

calls: softhsm ## print the PKCS#11 calls of one sealed card, as in docs/pkcs11.md
	@tools/ensure.sh gcc
	$(GO) test -count=1 -v -run TestCallsOfOneSealedCard ./integration

test-modules: softhsm ## try every PKCS#11 module found here; prints the table of docs/hsm
	@tools/ensure.sh gcc nss
	$(GO) test -count=1 -v -tags modules -run 'TestModules$$' ./hsm/conformance

faults: softhsm ## run the fault table against real processes; prints it for docs/recovery.md (minutes)
	@tools/ensure.sh gcc
	@tools/ensure.sh p11-kit
	$(GO) test -count=1 -v -timeout 30m -tags faults -run 'TestFaults|TestWrongPINIsTriedOnceByAllProcesses|TestRemoteModule' ./integration

isolation: softhsm ## run the tests of recovery and of several members over members in processes of their own
	@tools/ensure.sh gcc
	MINTMARK_TEST_ISOLATION=process $(GO) test -race -count=1 -run '$(RECOVERY)' ./integration

RECOVERY := TestLostSessions|TestLostDevice|TestShortHang|TestLongHang|TestRefusedPIN|TestStartsWithout|TestOneMember|TestKeyThatOneMember|TestMemberThatHangs|TestFullLane

bench-isolation: softhsm ## what a member's own process costs, as in docs/recovery.md
	@tools/ensure.sh gcc
	$(GO) test -run '^$$' -bench Isolation -benchtime 3000x ./hsm

soak: softhsm ## 200 000 seals and as many signatures; SOAK_N for another number (long)
	@tools/ensure.sh gcc
	$(GO) test -count=1 -v -timeout 2h -tags soak -run TestSoak ./integration

bulk: softhsm ## import 100 000 cards and rekey them; BULK_N for another number; prints the figures of docs/provisioning.md
	@tools/ensure.sh gcc node
	$(GO) test -count=1 -v -timeout 1h -tags bulk -run TestBulkImport ./integration

kills: softhsm postgresql ## kill -9 fifty times under load and verify the log each time (minutes); KILLS for another number
	KILLS=$${KILLS:-50} $(GO) test -race -count=1 -v -timeout 60m -run TestKilledAtRandomPoints ./integration

bench: softhsm postgresql ## what everything costs, held against a raw loop in C (10 minutes; BENCH_SECONDS); docs/performance.md
	@tools/ensure.sh gcc
	BENCH_JSON=$${BENCH_JSON:-$(CURDIR)/bench.json} $(GO) test -count=1 -v -timeout 60m -tags bench -run 'TestBench$$|TestBareBuild' ./integration

cost: softhsm postgresql ## what one operation of each kind costs in token calls, rows, bytes and CPU, as in docs/scaling.md (minutes)
	@tools/ensure.sh gcc
	$(GO) test -count=1 -v -timeout 30m -tags cost -run TestCostOfEachOperation ./integration

bench-log: softhsm postgresql ## what the audit log costs on SQLite and PostgreSQL, as in docs/audit.md (minutes)
	$(GO) test -count=1 -v -timeout 30m -tags benchlog -run TestCostOfTheLog ./integration

passload: softhsm ## passes: 1 000 000 registrations, a fan-out to 100 000 through kill -9, bundles a second (minutes)
	@tools/ensure.sh gcc
	$(GO) test -count=1 -v -timeout 1h -tags passload -run 'TestMillionRegistrations|TestFanOutThroughAKill|TestBundlesColdAndWarm' ./integration

registrations: postgresql ## 10 000 000 registrations in PostgreSQL against a tenth of them (minutes, 4 GB of disk); REGISTRATIONS for another number
	$(GO) test -count=1 -v -timeout 1h -tags registrations -run TestTenMillionRegistrations ./internal/store

rotation: softhsm ## rotate every key of a server 25 times under load (ROTATIONS for another number): no failed request, nothing by a retired key (minutes)
	@tools/ensure.sh gcc node
	$(GO) test -count=1 -v -timeout 1h -tags rotation -run TestEveryKeyIsRotatedUnderLoad ./integration

passpeers: softhsm ## have passkit-generator and @walletpass/pass-js check passes (npm)
	@tools/ensure.sh gcc node
	$(GO) test -count=1 -v -tags passpeers -run TestPeersTakeWhatIsServed ./integration

console-test: softhsm ## look at every page of the console in Chromium, with axe-core (npm, Node.js 20; CONSOLE_SHOTS keeps the screenshots)
	@tools/ensure.sh gcc node chromium
	$(GO) test -count=1 -v -timeout 20m -tags console -run TestConsoleInABrowser ./integration

cluster: softhsm postgresql ## two replicas: restarts under load, and what the second is worth, as in docs/cluster.md (minutes)
	@tools/ensure.sh gcc haproxy
	$(GO) test -count=1 -v -timeout 30m -tags cluster -run 'TestRestartsUnderLoad|TestSecondReplica' ./integration/cluster

linearizability: softhsm postgresql ## nonces through two replicas under kills and pauses, held against a model (10 minutes; LIN_SECONDS)
	@tools/ensure.sh gcc haproxy
	$(GO) test -count=1 -v -timeout 60m -tags linearizability -run TestNonceClaimsAreLinearizable ./integration/cluster

man: ## make the manual pages in bin/man
	@mkdir -p bin/man
	@$(GO) run -tags manpages -ldflags "-X main.version=$(VERSION)" ./cmd/mintmark bin/man

deb: man ## make a Debian package in bin/deb
	@tools/ensure.sh gcc
	@$(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION) -X main.revision=$(REVISION)" -o bin/deb/mintmark ./cmd/mintmark
	@tools/deb.sh bin/deb/mintmark bin/man $(VERSION) bin/deb

deb-test: ## install the newest package of bin/deb in a Debian 12 of its own (root, network; a minute), and use it
	@tools/ensure.sh lintian debootstrap
	@tools/debtest.sh "$$(ls -t bin/deb/*.deb | head -1)"

unit-test: ## boot Debian's systemd in a container (systemd-nspawn, root, network; minutes), and have it run the newest package of bin/deb; SUITE=trixie for Debian 13
	@tools/ensure.sh debootstrap systemd-nspawn
	@tools/unittest.sh "$$(ls -t bin/deb/*.deb | head -1)" $(SUITE)

unit-check: build ## hold the systemd unit against systemd-analyze: errors, and exposure of 2.0 at most
	@tools/ensure.sh systemd-analyze
	@tools/unitcheck.sh $(BIN)

alerts-check: ## check the Prometheus rules, and test them on made-up series
	@tools/ensure.sh promtool
	@promtool check rules deploy/prometheus/alerts.yaml
	@promtool test rules deploy/prometheus/alerts_test.yaml

helm-check: ## lint and render the Helm chart, each rendering read strictly as Kubernetes' own types (builds helm: minutes)
	@tools/helm/check.sh

dockerfile-check: ## lint the Dockerfile (npm)
	@tools/ensure.sh node npm
	@npx --yes dockerfile-utils@0.16.3 lint deploy/Dockerfile

fuzz: softhsm ## fuzz every parser for 30 seconds each
	@tools/fuzz.sh 30s

lint: ## gofmt, go vet, generated code, staticcheck
	@tools/lint.sh

lint-api: ## hold httpapi/openapi.yaml against Redocly's rules (npm, Node.js 20.19 or later)
	@tools/lint-api.sh

check: lint ## lint, and golangci-lint (which is built here the first time: minutes)
	@test -x $(GOLANGCI) || { mkdir -p $(dir $(GOLANGCI)) && GOEXPERIMENT= GOBIN=$(dir $(GOLANGCI)) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0; }
	$(GOLANGCI) run ./...

GOLANGCI := $(CURDIR)/bin/tools/golangci-lint

vulncheck: ## look the modules up in Go's vulnerability database (needs vuln.go.dev)
	$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.8.0 ./...

sbom: build ## write bin/mintmark.cdx.json: what the binary is made of, as CycloneDX 1.5
	@$(GO) build -C tools -o ../bin/tools/sbom ./sbom
	@bin/tools/sbom $(BIN) $(VERSION) >$(BIN).cdx.json

sbom-check: sbom ## hold it against CycloneDX's schema (npm)
	@tools/ensure.sh node npm
	@cd tools/sbom && npm ci --silent --no-audit --no-fund --ignore-scripts
	@node tools/sbom/validate.js $(BIN).cdx.json

reproducible: ## build the committed sources twice, in two directories, and compare the bytes (minutes)
	@tools/ensure.sh gcc
	@tools/reproducible.sh

generate: ## make server and client from httpapi/openapi.yaml, and the generated pages of docs
	$(GO) generate ./...

clean: ## remove what was built, and the development data
	rm -rf bin $(DATA)

.PHONY: softhsm postgresql
softhsm:
	@tools/ensure.sh softhsm

postgresql:
	@tools/ensure.sh postgresql
