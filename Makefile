# `make` prints this help. CI runs these targets and nothing else.
SHELL := /bin/bash
MODULES := $(shell sed -n 's/^\t\(\.\/.*\)/\1/p' go.work)
LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.5.0
CONCURRENT := ./shared/queue ./shared/smtpclient ./shared/dnsx ./shared/config ./shared/service ./shared/natsd ./services/ingress/... ./services/delivery/... ./services/ledger/... ./loadtest/compare/...

.PHONY: help
help: ## print this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.PHONY: run
run: ## run the sandbox: all services in one process, nothing leaves the machine
	go run ./cmd/postrider up

.PHONY: test
test: ## every unit and scenario test that needs only Go
	go test work

.PHONY: check
check: fmt vet alone imports lint race ## formatting, vet, each module alone, import rules, linter, race detector

.PHONY: fmt
fmt:
	@out=$$(gofmt -l $(MODULES)); if [ -n "$$out" ]; then echo "not gofmt'd:"; echo "$$out"; exit 1; fi

.PHONY: vet
vet:
	go vet work

.PHONY: alone
alone: ## build each module by itself, without the workspace
	@for m in $(MODULES); do (cd $$m && echo "alone $$m" && GOWORK=off go vet ./...) || exit 1; done

.PHONY: imports
imports: ## who may import whom
	go test -count=1 -run TestImports ./test

.PHONY: lint
lint: ## the pinned linter
	go run $(LINT) run --timeout 10m $(MODULES:=/...)

.PHONY: race
race: ## race detector on the packages with goroutines of their own
	go test -race $(CONCURRENT)

.PHONY: build
build: ## binaries in bin/, static with CGO_ENABLED=0 (then RSA is Go's, and takes three times as long)
	@mkdir -p bin
	go build -trimpath -buildvcs=false -o bin/ ./cmd/postrider ./cmd/mxsink ./services/ingress/cmd/ingress ./services/policy/cmd/policy \
		./services/signer/cmd/signer ./services/delivery/cmd/delivery ./services/bounce/cmd/bounce ./services/ledger/cmd/ledger ./loadtest

.PHONY: demo
demo: ## send one good and one bad message through a sandbox and show what became of them
	go run ./test/cmd/demo

.PHONY: interop
interop: build ## with real peers: Postfix as MX, OpenDKIM and dkimpy as verifiers, rspamd and OpenDKIM as scanners, tcpdump on the wire (root, Debian packages)
	go test -count=1 -tags interop -timeout 15m ./test/interop ./services/policy/scan

.PHONY: estate
estate: ## 3,000 senders of a real Postfix, and of an Exchange export, imported and asked (root, postfix)
	go test -count=1 -tags estate -timeout 15m -v ./test/import

.PHONY: compose
compose: ## the compose set on a Docker engine, end to end
	go test -count=1 -tags compose -timeout 20m -v -run TestCompose ./test/compose

.PHONY: load
load: build ## 2,000 messages of 2 recipients, 10 % bad, 20 connections, and the books checked
	go test -count=1 -tags load -timeout 15m -v -run TestLoad ./test/load

.PHONY: faults
faults: ## processes and NATS killed, stopped and silenced under load, and the books checked; FAULT_SEEDS, FAULT_MESSAGES, FAULT_KILLS make it longer
	go test -count=1 -tags faults -timeout 60m -v ./test/faults

.PHONY: room
room: ## a full store, a full volume, a bus that does not answer, and orderly stops (root)
	go test -count=1 -tags faults -timeout 15m ./test/room

.PHONY: recovery
recovery: ## derived streams wiped and LEDGER set back: nothing lost, nothing twice
	go test -count=1 -tags recovery -timeout 15m ./test/recovery

.PHONY: crashpoints
crashpoints: ## each service killed at its n-th write while one message goes through (strace); all points: -rounds 4
	go test -count=1 -tags crashpoints -timeout 30m -v ./test/crashpoints

.PHONY: memory
memory: ## 50 MB, and twenty of them at once: resident memory and digests
	go test -count=1 -tags memory -timeout 15m -v ./test/memory

.PHONY: flood
flood: ## a million recipients refused over SMTP: the evidence bounded and readable, the devices served
	go test -count=1 -tags flood -timeout 20m -v ./test/flood

.PHONY: soak
soak: build ## 70 % of what the relay can do, for SOAK_MINUTES (3 unless set): nothing grows
	go test -count=1 -tags soak -timeout 3h -v ./test/soak

.PHONY: compare
compare: build ## Postrider beside Postfix and OpenDKIM, in turn on this machine (root; postfix, opendkim, strace)
	bin/loadtest compare

.PHONY: bench
bench: ## benchmarks
	go test -run '^$$' -bench . -benchmem work

.PHONY: docs
docs: ## write the generated pages
	go test ./shared/config -run Document -update
	go test ./test/acceptance -run Page -update

.PHONY: tidy
tidy: ## bring every go.mod and go.sum in order
	@for m in $(MODULES); do (cd $$m && GOWORK=off go mod tidy) || exit 1; done
	go work sync
