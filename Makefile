# `make` lists the targets. run, test, build and generate need only Go and
# make; what else needs more installs it (as root) or skips and says why.

GO ?= go
BINARY := mirrormq
# Where `make run` keeps its data, and more flags for it (ARGS="--restart").
DATA ?= data
ARGS ?=
# ARGS of make bench: more flags of `mirrormq bench compare`.
# make crash: how often the broker is killed. make fuzz: seconds for all targets.
ROUNDS ?= 100
FUZZ_SECONDS ?= 60
# make sim: SEED=0 plays SEEDS seeds, any other that one.
SEED ?= 0
SEEDS ?= 300
STEPS ?= 60000
# make faults: which; all of internal/testcluster's by default.
FAULTS ?= .
# make chaos, make rolling: how long. make standstill: how often each fault. make catchup: how
# many messages pass.
DURATION ?= 10m
TIMES ?= 10
MESSAGES ?= 1000000
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# A tagged checkout builds as its tag; any other as the version in the source.
VERSION := $(shell git describe --tags --dirty 2>/dev/null)
LDFLAGS := $(if $(VERSION),-ldflags "-X main.version=$(VERSION)")

.DEFAULT_GOAL := help
.PHONY: help run build test race check generate conformance smoke sim crash chaos faults standstill catchup fuzz bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## build and start three brokers (AMQP 5672…5674, HTTP 15672…15674, data in data)
	./$(BINARY) cluster --data $(DATA) $(ARGS)

build: ## build the static binary ./mirrormq
	CGO_ENABLED=0 $(GO) build -trimpath $(LDFLAGS) -o $(BINARY) ./cli

test: ## run the tests
	$(GO) test ./...

# crashtest and testcluster test other processes, which are built without it.
race: ## run the tests under the race detector
	$(GO) test -race -timeout 20m $$($(GO) list ./... | grep -vE 'internal/(crashtest|testcluster)$$')

check: ## gofmt, vet, staticcheck and the rules of internal/lint
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	if [ -n "$$unformatted" ]; then echo "not formatted: $$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) test -count=1 ./internal/lint

generate: ## make the generated code again
	$(GO) generate ./...

conformance: build ## the tests of rabbitmq/amqp091-go against our broker
	BINARY=./$(BINARY) internal/conformance/run

smoke: build ## other client libraries against our broker
	$(GO) run ./internal/launch/with -binary ./$(BINARY) -- internal/smoke/run

sim: ## simulate SEEDS clusters, or that of SEED, for STEPS steps each
	$(GO) test -count=1 -timeout 60m -v -run 'Simulated|SameSeed' ./broker -sim.seed=$(SEED) -sim.seeds=$(SEEDS) -sim.steps=$(STEPS)

crash: ## kill a broker under load ROUNDS times, and lose nothing
	$(GO) test -count=1 -v -timeout 60m ./internal/crashtest -rounds $(ROUNDS)

chaos: ## play random faults on three brokers for DURATION, and lose, double and reorder nothing
	$(GO) test -count=1 -v -timeout 0 ./internal/testcluster -run RandomFaults -chaos $(DURATION)

faults: ## play each fault on real brokers as long and as often as was promised; FAULTS is a pattern
	$(GO) test -count=1 -v -timeout 0 ./internal/testcluster -long -rounds 50 -run '$(FAULTS)'

standstill: ## how long clients stand still when a broker of three is lost, TIMES times each
	$(GO) test -count=1 -v -timeout 0 ./internal/testcluster -run MeasureStandStills -measure $(TIMES)

catchup: ## what a mirror that was down while MESSAGES passed costs clients as it catches up
	$(GO) test -count=1 -v -timeout 0 ./internal/testcluster -run MeasureCatchUp -catchup $(MESSAGES)

rolling: ## kill brokers in turn under the SDK's producers and consumers for DURATION
	$(GO) test -count=1 -v -timeout 0 ./client -run RollingKill -args -rolling $(DURATION)

fuzz: ## every fuzz target in turn, FUZZ_SECONDS in all
	.ci/fuzz $(FUZZ_SECONDS)

bench: build ## five minutes beside RabbitMQ, JetStream and a null broker; appends to bench/history.jsonl
	./$(BINARY) bench compare --against rabbitmq,jetstream,null --scenario one-broker,cluster,latency --driver lean \
	--rounds 2 --duration 5s --warm-up 1s --commit "$$(git describe --always --dirty --abbrev=12)" \
	--html bench/results.html --history bench/history.jsonl $(ARGS)

clean: ## remove the binary and the data of make run
	rm -rf $(BINARY) data
