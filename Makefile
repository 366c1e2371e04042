# Tailfin. `make` alone lists the targets.

GO           ?= go
GOLANGCI     := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
VERSION      ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS      := -X main.version=$(VERSION)
# The database of vulnerabilities that make test looks into; "latest" is today's.
VULNDB       ?= v0.0.0-20261105234957-e22db6528018
FUZZTIME     ?= 20000x
LISTEN       ?= 127.0.0.1:4433
ARGS         ?=

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/tailfin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/tailfin ./cmd/tailfin

.PHONY: run
run: build ## build, and start the receiver on its defaults (ARGS="--backend mmsg" adds flags)
	bin/tailfin serve --listen $(LISTEN) $(ARGS)

.PHONY: demo
demo: build ## run the close race, drain off and on (ARGS="--iterations 500")
	bin/tailfin demo $(ARGS)

.PHONY: test
test: vet lint vuln test-race test-nouring test-32bit test-build test-package fuzz ## everything that must pass

.PHONY: vet
vet: ## go vet, with and without io_uring
	$(GO) vet ./...
	$(GO) vet -tags nouring ./...

.PHONY: lint
lint: ## golangci-lint at the pinned version
	$(GO) mod tidy -diff
	$(GO) run $(GOLANGCI) run ./...

.PHONY: vuln
vuln: ## govulncheck: known vulnerabilities that the code can reach (VULNDB=latest)
	VULNDB=$(VULNDB) scripts/vuln.sh

.PHONY: test-race
test-race: ## unit and integration tests with the race detector
	scripts/test.sh -race ./...

.PHONY: test-nouring
test-nouring: ## the build without io_uring, and the tests of what receives then
	$(GO) build -tags nouring ./...
	scripts/test.sh -tags nouring -gcflags=github.com/tailfin-quic/tailfin/...=-d=checkptr ./uring ./udp ./cmd/tailfin/internal/service

.PHONY: test-32bit
test-32bit: ## the system calls with 32-bit structures, which an amd64 kernel takes too
	scripts/test32.sh

.PHONY: test-build
test-build: ## that every package builds on the systems it promises
	GOOS=linux GOARCH=arm64 $(GO) build ./...
	GOOS=darwin $(GO) build ./uring ./udp ./h3frame .
	GOOS=freebsd $(GO) build ./uring ./udp ./h3frame .

.PHONY: package
package: ## bin/tailfin_VERSION_ARCH.deb (FORMAT=rpm: an RPM)
	scripts/package.sh

.PHONY: test-package
test-package: ## build the Debian package and prove it; with CI=true install it too
	scripts/test-package.sh

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME, a number of runs (20000x) or a time (10m)
	FUZZTIME=$(FUZZTIME) scripts/fuzz.sh

.PHONY: hostile
hostile: ## the tests of faults and attacks in full, and a table of what came of each (ARGS=./udp)
	scripts/hostile.sh $(ARGS)

.PHONY: bench
bench: build ## measure all, into bin/bench: bench.json, bench.txt for benchstat, bench.html (ARGS=--quick)
	bin/tailfin bench all --dir bin/bench $(ARGS)

.PHONY: bench-check
bench-check: bench ## measure all, and say pass or short for each target (ARGS=--quick)
	bin/tailfin bench check bin/bench/bench.json

.PHONY: bench-go
bench-go: ## Go benchmarks of the decoder and the receive path
	$(GO) test -run '^$$' -bench . -benchmem ./h3frame ./udp

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
