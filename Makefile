# hiveproof: make run and make test do all their own set-up.
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
# What the embedded lab needs, as Debian and Ubuntu call it.
PACKAGES := qemu-system-x86 qemu-utils mmdebstrap e2fsprogs debian-archive-keyring uidmap
OUTPUT  ?= hiveproof-results
RUN     ?=
# What the race detector needs.
TEST_PACKAGES := gcc libc6-dev

.PHONY: run test e2e e2e-controls bench lint build setup clean

# The default suite on the embedded QEMU lab; the last line is the report's path.
run: setup build
	./bin/hiveproof run --output $(OUTPUT) $(RUN)

test: build
	@./hack/setup.sh $(TEST_PACKAGES)
	$(GO) vet ./...
	$(GO) test -race ./...
	$(GO) test -run TestBounds ./scenarios/recipe/

# On real virtual machines: recipes pass, a negative control fails, a killed run
# leaves nothing, the order does not matter, damaged snapshots are made anew.
E2E ?= .
e2e: setup build
	HIVEPROOF_E2E=1 $(GO) test -count=1 -timeout 60m -v -run '$(E2E)' ./e2e/

# Every claim is seen failing on a site that is broken on purpose (docs/controls.md);
# CONTROLS is a regular expression of the mutations to be tried.
CONTROLS ?= .
e2e-controls: setup build
	HIVEPROOF_E2E=controls $(GO) test -count=1 -timeout 90m -v -run 'TestControls/($(CONTROLS))' ./e2e/

bench:
	$(GO) test -run '^$$' -bench . ./provision/fabric/ ./scenarios/recipe/ ./scenarios/recipe/lint/

lint:
	$(GO) vet ./...
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	$(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...

# The agent is built without a version-control stamp: its digest names the node
# image, which is to stay the same until the agent itself changes.
build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/hiveproof ./cmd/hiveproof
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w' -o bin/hiveproof-agent ./cmd/hiveproof-agent

# Installs what is missing, with sudo if need be; a machine that has everything is left alone.
setup:
	@./hack/setup.sh $(PACKAGES)

clean:
	rm -rf bin $(OUTPUT)
