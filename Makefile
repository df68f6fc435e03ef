# What people and CI run, each in one line. `make help` lists it.
#
# ARGS is handed on:  make run ARGS="--listen 127.0.0.1:0"    make test ARGS="--test api isolation"

CARGO ?= cargo
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run test test-clients test-pooler fuzz lint fmt fmt-check clippy layering doc deny ci migrate bench crash image \
	cargo postgres-to-run postgres-to-test

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

# A development build: the wait between this command and a server is the build, and an optimised one
# takes several times as long, for a first look that does not need it. Password hashing and SCRAM
# are optimised in it all the same (Cargo.toml), `make test` then finds the dependencies built, and
# what is deployed is the image, which is a release build.
run: cargo postgres-to-run ## start a server, with a PostgreSQL of its own unless DATABASE_URL names one
	$(CARGO) run -- serve $(ARGS)

test: cargo postgres-to-test ## run all tests, on a PostgreSQL of their own unless TEST_DATABASE_URL names one
	$(CARGO) test $(ARGS)

test-clients: cargo ## drive the published Databunker clients against a server of this checkout
	@.ci/ensure-postgres
	tests/clients/run

test-pooler: cargo postgres-to-test ## run the tests with PgBouncer, pooling transactions, before the server's connections
	tests/pooler/run $(ARGS)

fuzz: cargo ## try every operation of the OpenAPI document with made-up requests (ARGS="--include-tag control")
	@.ci/ensure-postgres
	tests/fuzz/run $(ARGS)

lint: fmt-check layering clippy ## what a reviewer should not have to say

fmt: cargo ## format the code
	$(CARGO) fmt

fmt-check: cargo
	$(CARGO) fmt --check

clippy: cargo
	$(CARGO) clippy --all-targets --all-features -- -D warnings

layering: cargo
	$(CARGO) test --test layering

doc: cargo ## build the documentation, without a warning
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps

deny: cargo ## check licences, bans, sources and advisories of the dependencies
	.ci/deny

ci: ## all of what CI runs
	.ci/run

migrate: cargo postgres-to-run ## migrate the control plane and the fleet
	$(CARGO) run -- migrate $(ARGS)

bench: cargo postgres-to-test ## measure
	$(CARGO) bench $(ARGS)

crash: cargo postgres-to-test ## kill it in the middle of 200 set-ups and of 20 fleet migrations, and look for halves
	ROWHOUSE_CRASH_SETUPS=200 $(CARGO) test --test api crash -- --nocapture $(ARGS)
	ROWHOUSE_FLEET_KILLS=20 $(CARGO) test --test api fleet::kills -- --nocapture $(ARGS)

image: ## build the container image
	docker build -t rowhouse .

# ---- what the targets above need ----

cargo:
	@command -v $(CARGO) >/dev/null 2>&1 || { \
		echo "Rust's cargo is not on the PATH: get it as https://rustup.rs says, then try again." >&2; \
		exit 1; \
	}

postgres-to-run:
	@test -n "$$DATABASE_URL" || .ci/ensure-postgres DATABASE_URL

# Also beside a server that runs already: some tests start servers of their own, to kill them.
postgres-to-test:
	@.ci/ensure-postgres
