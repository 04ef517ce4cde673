# The project's commands. Each first installs what it needs where that is missing (scripts/setup).

# Where rustup puts cargo, for a shell that has not read its profile since.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

.PHONY: run test simulate torture recovery lint advisories bench instructions loadtest fuzz setup

# Everything on this machine: private Postgres and Redis, demo tenants, a sidecar, a worker.
run: setup
	cargo build --locked --release
	exec target/release/tollgate dev $(ARGS)

# The whole proof: style, lints, unit tests, layers, integration tests on real stores, and that no hot
# path has become dearer. Where the registries of the public clients are out of reach, the tests that
# run them say so and are left out.
test: lint
	-@./scripts/clients
	cargo test --locked --workspace --no-fail-fast
	$(MAKE) instructions

# Real processes, killed, stopped and cut off round after round, as long as one likes: MINUTES=30 SEED=1.
torture: setup
	TORTURE_MINUTES=$(MINUTES) TORTURE_SEED=$(SEED) cargo test --locked --test integration torture::a_long_run -- --ignored --nocapture

# How soon all is right again: a killed sidecar with MIB=1024 of journal, Redis lost, Postgres back.
recovery: setup
	cargo build --locked --release --bin tollgate
	TESTED_PROGRAM=$(CURDIR)/target/release/tollgate RECOVERY_MIB=$(MIB) \
		cargo test --locked --test integration -- --include-ignored --nocapture --test-threads 1 \
		torture::recovery torture::restart::a_killed_sidecar_with

# The lease protocol in many more worlds than the tests play; a failure prints its seed.
simulate: setup
	TOLLGATE_SEEDS=$(or $(SEEDS),100000) cargo test --locked --release --lib \
		leases::simulation::worlds -- --test-threads 1 --nocapture

lint: setup
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- --deny warnings
	./scripts/deny licenses bans sources

# Known vulnerabilities of what is built in. Fetches their database, so it is no part of the proof.
advisories: setup
	CARGO_DENY=required ./scripts/deny advisories

# In-process figures of the hot path.
bench: setup
	cargo bench --locked --bench enforcement --bench keys $(ARGS)

# Instructions of the hot paths in a release build, beside benches/instructions.toml; BLESS=1 writes
# them there.
instructions: setup
	BLESS=$(BLESS) cargo bench --locked --bench instructions

# Figures over the wire, beside servers that do nothing and others, and of the stores: docs/performance.md and
# docs/performance-stores.md. Some 15 minutes and some 7 after the build. Where the others cannot be
# installed, the document says so and leaves them out.
loadtest: setup
	-@./scripts/peers
	cargo build --locked --release --workspace
ifdef ARGS
	target/release/tollgate-loadtest $(ARGS)
else
	target/release/tollgate-loadtest compare --document docs/performance.md
	target/release/tollgate-loadtest stores --document docs/performance-stores.md
endif

# Every fuzz target for MINUTES, two at a time; what was answered in a new way is kept in target/fuzz.
fuzz: MINUTES ?= 1
fuzz: setup
	FUZZ_GROW=1 BOLERO_RANDOM_ITERATIONS=18446744073709551615 BOLERO_RANDOM_TEST_TIME_MS=$$(($(MINUTES) * 60000)) \
		cargo test --locked --workspace --test targets -- --test-threads=2 $(ARGS)

setup:
	@./scripts/setup
