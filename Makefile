# `make start` and `make test` are all the set-up that a fresh Debian or Ubuntu machine with Rust needs.

.PHONY: start stop install build tools test-tools test lint format deny bench

# What tools/clients has made, where the machine has no kubectl or an old one.
CLIENTS := $(or $(SKIFF_CLIENT_CACHE),$(HOME)/.cache/skiff-test-clients)/bin

SKIFF := $(or $(CARGO_TARGET_DIR),target)/release/skiff

# What the build needs (a C compiler, the seccomp library, protoc and the messages that everybody imports for CRI and etcd)
# and what a node needs (nft).
BUILD_PACKAGES := gcc libc6-dev pkg-config libseccomp-dev protobuf-compiler libprotobuf-dev nftables
# What the tests need besides: a registry, etcd, and programs to make images of, network namespaces, Python's venv.
TEST_PACKAGES := docker-registry etcd-client etcd-server python3 python3-venv busybox-static iproute2 curl \
	ca-certificates procps

## Build the release binary, start a one-node cluster and wait until its node is Ready
start: build
	$(SKIFF) start

stop:
	$(SKIFF) stop

## Put the release binary where the shell finds it
install: build
	install -m 755 $(SKIFF) /usr/local/bin/skiff

build: tools
	cargo build --release --locked -p skiff

tools:
	@tools/install $(BUILD_PACKAGES)

test-tools: tools
	@tools/install $(TEST_PACKAGES)
	@tools/install-command cargo-nextest cargo-nextest
	@command -v node >/dev/null || tools/install nodejs
	@command -v npm >/dev/null || tools/install npm
	@tools/clients

## Run every test. The whole-cluster tests start the binary that is built here.
test: export PATH := $(CLIENTS):$(PATH)
test: test-tools
	cargo build --locked -p skiff
	tests/images/prepare
	cargo nextest run --locked --workspace --no-fail-fast
	cargo test --locked --workspace --doc

lint:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

format:
	cargo fmt --all

deny:
	@tools/install-command cargo-deny cargo-deny
	tools/deny

## Print the figures that README and docs/benchmarks.md state
bench: build test-tools
	tests/images/prepare
	cargo run --locked --release -p skiff-bench -- node --skiff $(SKIFF)
	cargo run --locked --release -p skiff-bench -- api --skiff $(SKIFF) --runs 3
