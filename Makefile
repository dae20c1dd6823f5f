# Maille's commands. `make dev` shows the mesh, `make test` proves it, `make bench` measures it, `make release` builds what is shipped,
# `make deb` Debian packages of it.
# Each does its own set-up: Debian packages where root and apt are there; elsewhere it says plainly what is missing.

TARGET := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
BIN := target/$(TARGET)/debug
RELEASE := target/$(TARGET)/release
BINARIES := maille maille-controller maille-proxy maille-init
# The whole workspace is always selected, so that every command unifies features alike and nothing compiles twice.
BUILD := cargo build --workspace --bins
# What tests are compiled with, too: with the examples, the same features hold for both, and nothing is compiled again for the tests.
BUILD_TESTED := $(BUILD) --examples

.PHONY: dev test test-kubernetes bench release deb setup lint
# Ctrl-C must reach `maille dev`, which cleans up; make itself adds nothing.
.NOTPARALLEL:

dev: setup
	@$(if $(findstring --envoy,$(ARGS)),tests/peers/fetch envoy grpc,:)
	@$(BUILD_TESTED) --quiet
	@$(BIN)/maille dev $(ARGS)

test: setup
	tests/peers/fetch envoy grpc grpc-go etcd coredns kubernetes
	$(BUILD_TESTED)
	cargo test --workspace --no-fail-fast

# The part of it that needs a Kubernetes.
test-kubernetes: setup
	tests/peers/fetch etcd coredns kubernetes
	$(BUILD_TESTED)
	cargo test --workspace --test kubernetes

bench: setup release
	tests/bench $(ARGS)

release:
	$(BUILD) --release
	@mkdir -p target/release-bin && cd $(RELEASE) && cp $(BINARIES) $(CURDIR)/target/release-bin/
	@ls -l target/release-bin

deb: release
	@cli/packaging/deb target/release-bin target/deb

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

setup:
	@tests/setup
