# What can be done here; `make` alone shows the list.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c

HOST ?= 1
FUZZTIME ?= 20s
INSTALL := test/tools/install.sh
# Packages of one lane run one after the other: the machine is small. -count=1: their state is outside Go's cache.
LABTEST := go test -p 1 -count=1 -timeout 40m
COUNT := go run ./test/internal/count
# A clone without tags or git's leave still builds; the binary then says "devel".
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
COMMIT := $(shell git rev-parse --short HEAD 2>/dev/null)
VARS := github.com/socketplane/socketplane/internal/version
LDFLAGS := -s -w $(if $(VERSION),-X $(VARS).version=$(VERSION) -X $(VARS).commit=$(COMMIT))
# Packages that start hosts of their own have lanes; all others run with the race detector, three at a time: most of their time they wait, too.
PLAIN = $(shell go list ./... | grep -vE '/test/(lab|cluster|doctor|e2e|users|chaos|crash|bench|vm|plugin|onehost|packages|scale|upgrade)(/|$$)')
# What a host of the end-to-end tests is: engine:tunnel:tests. The whole suite on one of them, the core on its opposite.
E2E := debian:kernel:. current:ovs:^TestCore
E2E_ALL := debian:kernel:. current:ovs:. debian:ovs:. current:kernel:.
# The same for hosts as fresh as users' are.
USERS := debian:kernel:. current:kernel:^TestCore
# e2e COMBINATIONS FLAGS PACKAGES: the shell code that runs them all, and fails if one of them did.
e2e = bad=0; for combination in $(1); do IFS=: read -r engine tunnel tests <<<"$$combination"; \
	SOCKETPLANE_E2E_ENGINE=$$engine SOCKETPLANE_E2E_TUNNEL=$$tunnel $(LABTEST) $(2) -run "$$tests" $(3) || bad=1; done; [ $$bad = 0 ]
# e2e-plugin FLAGS ENGINES TESTS E2E: the managed plugin's own tests on both engines, of the current one TESTS, and the tests E2E of e2e against it on ENGINES.
e2e-plugin = bad=0; SOCKETPLANE_E2E_ENGINE=debian $(LABTEST) $(1) ./test/plugin/... || bad=1; \
	SOCKETPLANE_E2E_ENGINE=current $(LABTEST) $(1) -run '$(3)' ./test/plugin/... || bad=1; \
	for engine in $(2); do SOCKETPLANE_E2E_PLUGIN=1 SOCKETPLANE_E2E_ENGINE=$$engine $(LABTEST) $(1) -run '$(4)' ./test/e2e/... || bad=1; done; [ $$bad = 0 ]
# What differs most between engines, and what differs most between an agent of its own and Docker's plugin.
PLUGIN_CURRENT := WithoutOpenVSwitch|ThreeHosts|Swarm
PLUGIN_E2E := ^TestCore|^TestAgentKilled|^TestOpenVSwitchAway

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/socketplane
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/socketplane ./cmd/socketplane

.PHONY: demo demo-down demo-status shell agent crash
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

crash: bin/lab ## end the agent of a demo host as a crash would: make crash HOST=2
	@bin/lab crash $(HOST)

.PHONY: test unit e2e users e2e-all e2e-kernel bench
# Tests that start hosts use half a core: they wait for clusters to form, for packages to install, for what agents do by the clock. So three lanes of
# them go side by side, each of about twenty minutes, and their results are shown one lane after the other. The emulated machine, which takes all it
# gets, goes beside two packages that measure nothing.
LANE2 := ./test/crash/... ./test/onehost/...
LANE3 := ./test/lab/... ./test/cluster/... ./test/packages/... ./test/doctor/... ./test/scale/... ./test/upgrade/...
test: ## everything that must pass, with what it needs (root)
	@$(INSTALL) consul ovs docker engine vm packages debian registry
	@export SOCKETPLANE_TEST_STRICT=1; failed=0; out=$$(mktemp -d); trap 'rm -rf "$$out"' EXIT; { \
	  go test -race -json -count=1 -p 3 -timeout 20m $(PLAIN) || failed=1; \
	  (cd test/moby && go test -json -count=1 ./...) || failed=1; \
	  $(LABTEST) -json ./test/vm/... >"$$out/vm" 2>&1 & vm=$$!; \
	  $(LABTEST) -json ./test/bench/... ./test/chaos/... || failed=1; \
	  wait $$vm || failed=1; cat "$$out/vm"; \
	  { $(call e2e-plugin,-json,current,$(PLUGIN_CURRENT),$(PLUGIN_E2E)); second=$$?; $(LABTEST) -json $(LANE2) || second=1; exit $$second; } >"$$out/2" 2>&1 & second=$$!; \
	  $(LABTEST) -json $(LANE3) >"$$out/3" 2>&1 & third=$$!; \
	  { $(call e2e,$(E2E),-json,./test/e2e/...); } || failed=1; \
	  { $(call e2e,$(USERS),-json,./test/users/...); } || failed=1; \
	  wait $$second || failed=1; cat "$$out/2"; \
	  wait $$third || failed=1; cat "$$out/3"; \
	  exit $$failed; } 2>&1 | $(COUNT)

unit: ## tests that need neither root nor other programs; seconds
	go test -short $(PLAIN)

e2e: ## what users do, on several Docker hosts, with both engines and both tunnels (root)
	@$(INSTALL) consul ovs docker engine
	@export SOCKETPLANE_TEST_STRICT=1; $(call e2e,$(E2E),-v,./test/e2e/...)

users: ## what users meet on fresh hosts, with both engines (root)
	@$(INSTALL) consul ovs docker engine
	@export SOCKETPLANE_TEST_STRICT=1; $(call e2e,$(USERS),-v,./test/users/...)

e2e-all: ## the whole of it with every engine and every tunnel (root)
	@$(INSTALL) consul ovs docker engine
	@export SOCKETPLANE_TEST_STRICT=1 SOCKETPLANE_TEST_LONG=1; $(call e2e,$(E2E_ALL),-v,./test/e2e/...)

.PHONY: chaos
chaos: ## three hosts under faults: OPS=2000 operations, SEED replays a run, engine and tunnel as SOCKETPLANE_E2E_… say (root)
	@$(INSTALL) consul ovs docker $(if $(filter current,$(SOCKETPLANE_E2E_ENGINE)),engine)
	SOCKETPLANE_TEST_STRICT=1 SOCKETPLANE_CHAOS_OPS=$${OPS:-2000} SOCKETPLANE_CHAOS_SEED=$${SEED:-} \
	  go test -count=1 -timeout 4h -v -run TestChaos ./test/chaos

e2e-kernel: ## e2e on the kernel's datapath, in a virtual machine (root)
	@$(INSTALL) consul ovs docker vm
	SOCKETPLANE_TEST_STRICT=1 $(LABTEST) -v ./test/vm/...

bench: ## measure, and write docs/benchmarks.md; half an hour, alone on the machine (root)
	@$(INSTALL) consul ovs docker
	go run ./test/bench/cmd/bench -o docs/benchmarks.md $(BENCHFLAGS)

PLUGIN ?= socketplane/plugin:latest
CONSUL ?= $(wildcard $(or $(SOCKETPLANE_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/socketplane)/bin/consul)
.PHONY: plugin plugin-rootfs plugin-push e2e-plugin
plugin-rootfs: build ## the managed plugin in build/plugin; needs the package openvswitch-switch, no registry
	rm -rf build/plugin && mkdir -p build/plugin && cp config.json build/plugin/
	internal/ownovs/rootfs.sh build/plugin/rootfs bin/socketplane $(CONSUL)

plugin: plugin-rootfs ## docker plugin create PLUGIN (socketplane/plugin:latest)
	docker plugin create $(PLUGIN) build/plugin

plugin-push: ## docker plugin push PLUGIN
	docker plugin push $(PLUGIN)

e2e-plugin: ## the managed plugin on hosts of its own, with both engines, and all of e2e against it (root)
	@$(INSTALL) consul ovs docker engine registry
	@export SOCKETPLANE_TEST_STRICT=1; $(call e2e-plugin,-v,debian current,.,.)

DIST ?= build/dist
.PHONY: packages release
release: ## packages, binaries, SBOMs and checksums for amd64 and arm64 in build/dist; VERSION comes from the tag
	@$(INSTALL) packages
	@VERSION='$(VERSION)' COMMIT='$(COMMIT)' packaging/build.sh release $(DIST)

packages: ## .deb and .rpm for amd64 and arm64 in build/dist
	@$(INSTALL) packages
	@VERSION='$(VERSION)' COMMIT='$(COMMIT)' packaging/build.sh packages $(DIST)

.PHONY: addresses
addresses: ## 100,000 requests for addresses under faults, and figures of them (minutes)
	@$(INSTALL) consul
	SOCKETPLANE_TEST_STRICT=1 SOCKETPLANE_ADDRESS_REQUESTS=$${REQUESTS:-100000} go test -count=1 -timeout 2h -v -run TestRandom ./test/addresses
	SOCKETPLANE_TEST_STRICT=1 go test -run '^$$' -bench Allocate -benchtime 20000x -timeout 1h ./test/addresses
	SOCKETPLANE_TEST_STRICT=1 go test -run '^$$' -bench Used -benchtime 2000x -timeout 1h ./test/addresses

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
