# What can be done here; `make` alone shows the list.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c

HOST ?= 1
FUZZTIME ?= 20s
INSTALL := test/tools/install.sh
# Packages whose tests start hosts run one after the other: the machine is small. -count=1: their state is outside Go's cache.
LABTEST := go test -p 1 -count=1 -timeout 40m
COUNT := go run ./test/internal/count
# A clone without tags or git's leave still builds; the binary then says "devel".
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
COMMIT := $(shell git rev-parse --short HEAD 2>/dev/null)
VARS := github.com/socketplane/socketplane/internal/version
LDFLAGS := -s -w $(if $(VERSION),-X $(VARS).version=$(VERSION) -X $(VARS).commit=$(COMMIT))
# Packages with hosts of their own that every test run includes, and packages without.
HOSTS = $(shell go list ./... | grep -E '/test/(lab|e2e|chaos|bench)(/|$$)')
PLAIN = $(shell go list ./... | grep -vE '/test/(lab|e2e|chaos|bench|vm)(/|$$)')

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/socketplane
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/socketplane ./cmd/socketplane

.PHONY: demo demo-down demo-status shell agent
demo: ## three Docker hosts on this machine share a network (root)
	@test "$$(id -u)" = 0 || { echo 'make demo makes network namespaces and mounts, which needs root: sudo make demo' >&2; exit 1; }
	@$(INSTALL) consul ovs docker
	@echo 'building socketplane'
	@$(MAKE) --no-print-directory -s build
	@go build -o bin/lab ./test/lab/cmd/lab
	@bin/lab up --agent $(CURDIR)/bin/socketplane $(DEMOFLAGS)

.PHONY: bin/lab
bin/lab:
	@go build -o bin/lab ./test/lab/cmd/lab

demo-down: bin/lab ## remove the demo
	@bin/lab down

demo-status: bin/lab ## the demo's hosts and their containers
	@bin/lab status

shell: bin/lab ## a shell on a host of the demo: make shell HOST=2
	@bin/lab shell $(HOST)

agent: bin/lab ## start the agent of a demo host again: make agent HOST=2
	@bin/lab agent $(HOST)

.PHONY: test unit e2e e2e-all e2e-kernel bench
test: ## everything that must pass, with what it needs (root)
	@$(INSTALL) consul ovs docker engine
	@export SOCKETPLANE_TEST_STRICT=1; { \
	  go test -json -count=1 -timeout 20m $(PLAIN); plain=$$?; \
	  $(LABTEST) -json $(HOSTS); exit $$((plain | $$?)); } 2>&1 | $(COUNT)

unit: ## tests that need neither root nor other programs; seconds
	go test -short $(PLAIN)

e2e: ## what users do, on several Docker hosts (root)
	@$(INSTALL) consul ovs docker
	SOCKETPLANE_TEST_STRICT=1 $(LABTEST) ./test/lab/... ./test/e2e/...

e2e-all: ## e2e with every engine and tunnel (root)
	@$(INSTALL) consul ovs docker engine
	SOCKETPLANE_TEST_STRICT=1 SOCKETPLANE_E2E=all $(LABTEST) ./test/lab/... ./test/e2e/...

e2e-kernel: ## e2e on the kernel's datapath, in a virtual machine (root)
	@$(INSTALL) consul ovs docker vm
	SOCKETPLANE_TEST_STRICT=1 $(LABTEST) ./test/vm/...

bench: ## measure, and write docs/benchmarks.md; ten minutes, alone on the machine (root)
	@$(INSTALL) consul ovs docker
	go run ./test/bench/cmd/bench -o docs/benchmarks.md $(BENCHFLAGS)

.PHONY: lint fuzz generate clean
lint: ## formatting, go vet, and staticcheck where test/tools/install.sh lint was run
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo 'gofmt would change:'; gofmt -l $$(git ls-files '*.go'); exit 1; }
	go vet ./...
	@staticcheck="$${SOCKETPLANE_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/socketplane}/bin/staticcheck"; \
	if [ -x "$$staticcheck" ]; then "$$staticcheck" ./...; else echo 'no staticcheck: $(INSTALL) lint builds it'; fi

fuzz: ## each fuzz target for FUZZTIME (20s)
	@grep -rlE '^func Fuzz' --include='*_test.go' . | while read -r file; do \
	  for target in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' $$file); do \
	    echo "$$target in $$(dirname $$file)"; \
	    go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$(dirname $$file) || exit 1; \
	  done; done

generate: ## make the generated code again
	go generate ./...

clean: ## remove what builds left in the checkout
	rm -rf bin build
